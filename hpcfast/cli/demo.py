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

    Alone or under a launcher of ranks. The runs demo-standard and demo-robust are its own. Stopped or killed, the same
    command resumes; once both are finished, it trains them anew.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of steps this small, threads would cost more than they bring
    with options.quick_imports():
        from hpcfast import config
        from hpcfast.cli import report
        from hpcfast.datasets import prepare
        from hpcfast.datasets.sources.digits import Digits
        from hpcfast.distributed import comm
        from hpcfast.training import claim, train

    world = comm.init()
    comm.on_root(lambda: prepare.prepare(Digits(name="digits"), DATA, lambda done: None))
    batch = max(1, BATCH // world.size)
    runs = []
    for name, made_from in RUNS.items():
        own = [f"name={name}", f"data.path={DATA}", f"data.batch_size={batch}", "evaluation.every=0"]
        runs.append(config.load(Path(f"configs/{made_from}.yaml"), own))

    def to_overwrite() -> list[bool]:
        found = [claim.state(run) for run in runs]
        return [state == "other" or {*found} == {"finished"} for state in found]

    for run, overwrite in zip(runs, comm.on_root(to_overwrite), strict=True):
        train.train(run, world, overwrite)
    if world.size == 1:
        report.command([Path("runs") / name for name in RUNS])
    elif world.is_root:  # launchers put a rank's number before each line, which tears tables
        print(f"compare them: hpcfast report {' '.join(f'runs/{name}' for name in RUNS)}")
