"""What sending gradients adds to a fast step: hpcfast's engines, Horovod and torch, and DistributedDataParallel.

Two ranks of one thread, both over Gloo, in fresh processes by turns; with 8 images a rank, which leave little to hide
behind, and with 32. In each group, steps that send gradients alternate with the same steps
that send none, on both ranks at once: the first rows are seconds of sending to not sending. The limit is 1: all that is
sent travels while the backward pass runs. The last rows are seconds of sending steps, of each two groups that ran one
after the other: what the libraries cost while idle counts, too.
"""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks import Bench
from benchmarks.table import Row
from hpcfast.bench import Taken, ratio

TITLE = "Two ranks"
LAUNCHERS = {
    "horovod": ["horovodrun", "--gloo", "-np", "2", sys.executable, "-m"],
    "torch": (
        torchrun := [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    ),
    "ddp": torchrun,
}
CASES = ((8, 4, 10), (32, 4, 4))
"""Images of a rank's step, pairs of groups, rounds of a group."""


def rows(bench: Bench) -> list[Row]:
    """Measure."""
    return [row for batch, pairs, rounds in CASES for row in _case(bench, batch, 1 if bench.short else pairs, rounds)]


def _case(bench: Bench, batch: int, pairs: int, rounds: int) -> list[Row]:
    found: dict[str, list[dict[str, list[Taken]]]] = {kind: [] for kind in LAUNCHERS}
    for number in range(pairs):
        for kind in sorted(LAUNCHERS, reverse=bool(number % 2)):
            found[kind].append(measure(bench, kind, "--batch", str(batch), "--rounds", str(rounds)))
    rest = {
        "horovod": "Horovod's thread, which sends, and the rank, which computes, share a core",
        "torch": "a small network's gradients lie in one bucket, which is sent when the last is there",
        "ddp": "the same; its buckets are filled in the order of the backward pass",
    }
    sent = {kind: [group["sending"] for group in groups] for kind, groups in found.items()}
    silent = {kind: [group["silent"] for group in groups] for kind, groups in found.items()}
    named = {kind: f"{kind}, {batch} images a rank" for kind in LAUNCHERS}
    last = "Horovod copies gradients to a buffer and back; DDP's lie in one"
    return [
        *(_row(named[kind], "no gradients sent", sent[kind], silent[kind], rest[kind]) for kind in LAUNCHERS),
        _row(named["horovod"], named["ddp"], sent["horovod"], sent["ddp"], last, 1.03),
        _row(named["torch"], named["horovod"], sent["torch"], sent["horovod"], "both run the same steps", 1.03),
    ]


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


def _row(
    ours: str, peer: str, one: list[list[Taken]], other: list[list[Taken]], rest: str, asked: float | None = None
) -> Row:
    """A group of ranks counts once, with its median."""
    wall = ratio(*([statistics.median(taken.wall for taken in group) for group in side] for side in (one, other)))
    cpu = ratio(*([statistics.median(taken.cpu for taken in group) for group in side] for side in (one, other)))
    return Row(ours, peer, cpu, wall, len(one), rest, 1.0, asked)
