"""``hpcfast demo``."""

import os
from pathlib import Path

from hpcfast.cli import options

RUNS = {"demo-standard": "digits_l2_standard", "demo-robust": "digits_l2"}
DATA = Path("data") / "digits"
BATCH = 64
"""Images of a step over all ranks, so that it is the same training on any number of them."""

EXAMPLES = options.examples(
    "hpcfast demo",
    "horovodrun -np 2 hpcfast demo",
)


def command() -> None:
    """Train and evaluate a small standard and a small robust network, and compare them: a minute.

    Alone or under a launcher of ranks. It always trains anew: the runs demo-standard and demo-robust are its own.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of steps this small, threads would cost more than they bring
    with options.quick_imports():
        from hpcfast import config
        from hpcfast.cli import report
        from hpcfast.datasets import prepare
        from hpcfast.datasets.sources.digits import Digits
        from hpcfast.distributed import comm
        from hpcfast.training import train

    world = comm.init()
    comm.on_root(lambda: prepare.prepare(Digits(name="digits"), DATA, lambda done: None))
    for name, made_from in RUNS.items():
        batch = max(1, BATCH // world.size)
        own = [f"name={name}", f"data.path={DATA}", f"data.batch_size={batch}", "evaluation.every=0"]
        train.train(config.load(Path(f"configs/{made_from}.yaml"), own), world, overwrite=True)
    if world.size == 1:
        report.command([Path("runs") / name for name in RUNS])
    elif world.is_root:  # launchers put a rank's number before each line, which tears tables
        print(f"compare them: hpcfast report {' '.join(f'runs/{name}' for name in RUNS)}")
