"""What sending gradients adds to a fast step: Horovod, as hpcfast uses it, beside torch's DistributedDataParallel.

Two ranks of one thread, both over Gloo, in fresh processes by turns. In each, steps that send gradients alternate with
the same steps that send none, on both ranks at once: ratios are of seconds, sending to not sending. The limit is 1:
all that is sent travels while the backward pass runs.
"""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks import Bench
from benchmarks.table import Ratio, Row
from benchmarks.turns import Taken, compare

TITLE = "Two ranks"
LAUNCHERS = {
    "horovod": ["horovodrun", "--gloo", "-np", "2", sys.executable, "-m"],
    "ddp": [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"],
}


def rows(bench: Bench) -> list[Row]:
    """Measure."""
    found: dict[str, list[Row]] = {kind: [] for kind in LAUNCHERS}
    for _ in range(1 if bench.short else 4):
        for kind in LAUNCHERS:
            found[kind].append(compare(measure(bench, kind), "sending", "silent", ""))
    rest = {
        "horovod": "Horovod's thread, which sends, and the rank, which computes, share a core",
        "ddp": "the same; its buckets are filled in the order of the backward pass",
    }
    both = [_row(f"{kind}, 2 ranks", "no gradients sent", found[kind], rest[kind], limit=1.0) for kind in LAUNCHERS]
    return [*both, _against(*both)]


def measure(bench: Bench, kind: str, *arguments: str) -> dict[str, list[Taken]]:
    """What rank 0 of a group of :mod:`benchmarks.rank` took for its kinds of steps."""
    out = bench.place / f"{kind}.part"
    launch(kind, "benchmarks.rank", kind, str(out), *arguments, *(["--short"] if bench.short else []))
    taken: dict[str, list[list[float]]] = json.loads(out.read_text())
    out.unlink()
    return {name: [Taken(*one) for one in each] for name, each in taken.items()}


def launch(kind: str, *arguments: str) -> None:
    """Run ``python -m`` with ``arguments`` on two ranks.

    Raises:
        SystemExit: it failed; the message is what it said.
    """
    command = [*LAUNCHERS[kind], *arguments]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1]), "PATH": path}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")


def _row(ours: str, peer: str, groups: list[Row], rest: str, limit: float) -> Row:
    """A group of ranks counts once, with its median."""
    cpus, walls = [group.cpu.median for group in groups if group.cpu], [group.wall.median for group in groups]
    cpu, wall = (Ratio(statistics.median(each), min(each), max(each)) for each in (cpus, walls))
    return Row(ours, peer, cpu, wall, len(groups), rest, limit)


def _against(horovod: Row, ddp: Row) -> Row:
    """How the two compare; their groups don't run side by side, so that the spread is of all pairs."""
    cpu, wall = (
        Ratio(one.median / other.median, one.low / other.high, one.high / other.low)
        for one, other in ((horovod.cpu, ddp.cpu), (horovod.wall, ddp.wall))
        if one and other
    )
    return Row(horovod.ours, ddp.ours, cpu, wall, horovod.n, "of the ratios above", 1.0, 1.03)
