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
from typing import Any

from benchmarks import Bench
from benchmarks.table import Ratio, Row
from benchmarks.turns import ratio

TITLE = "Two ranks"
LAUNCHERS = {
    "horovod": ["horovodrun", "--gloo", "-np", "2", sys.executable, "-m"],
    "ddp": [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"],
}


def rows(bench: Bench) -> list[Row]:
    """Measure."""
    found: dict[str, list[dict[str, Ratio]]] = {kind: [] for kind in LAUNCHERS}
    for number in range(1 if bench.short else 4):
        for kind in LAUNCHERS:
            found[kind].append(_group(bench, kind, bench.place / f"ranks-{kind}-{number}.part"))
    rest = {
        "horovod": "Horovod's thread, which sends, and the rank, which computes, share a core",
        "ddp": "the same; its buckets are filled in the order of the backward pass",
    }
    both = [_row(f"{kind}, 2 ranks", "no gradients sent", found[kind], rest[kind], limit=1.0) for kind in LAUNCHERS]
    return [*both, _against(*both)]


def _group(bench: Bench, kind: str, out: Path) -> dict[str, Ratio]:
    """The ratios that one group of ranks wrote to ``out``."""
    launch(kind, "benchmarks.rank", kind, str(out), *(["--short"] if bench.short else []))
    seconds: dict[str, Any] = json.loads(out.read_text())
    out.unlink()
    return {which: ratio(seconds["sending"][which], seconds["alone"][which]) for which in ("wall", "cpu")}


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


def _row(ours: str, peer: str, groups: list[dict[str, Ratio]], rest: str, limit: float | None = None) -> Row:
    """A group of ranks counts once, with its median."""
    medians = {which: [group[which].median for group in groups] for which in ("cpu", "wall")}
    cpu, wall = (Ratio(statistics.median(each), min(each), max(each)) for each in medians.values())
    return Row(ours, peer, cpu, wall, len(groups), rest, limit)


def _against(horovod: Row, ddp: Row) -> Row:
    """How the two compare; their groups don't run side by side, so that the spread is of all pairs."""
    cpu, wall = (
        Ratio(one.median / other.median, one.low / other.high, one.high / other.low)
        for one, other in ((horovod.cpu, ddp.cpu), (horovod.wall, ddp.wall))
        if one and other
    )
    return Row(horovod.ours, ddp.ours, cpu, wall, horovod.n, "of the ratios above", 1.0, 1.03)
