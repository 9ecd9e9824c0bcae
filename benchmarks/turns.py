"""Cases take turns, so that a busy moment hits all alike, and are compared with what ran in the same round."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import psutil

from benchmarks.table import Ratio, Row


class Taken(NamedTuple):
    """Seconds of one round."""

    wall: float
    cpu: float
    """Of all threads and child processes that are still there."""


def timed(run: Callable[[], object]) -> Taken:
    """What one call takes."""
    wall, cpu = time.perf_counter(), _cpu_seconds()
    run()
    return Taken(time.perf_counter() - wall, _cpu_seconds() - cpu)


def take_turns(cases: Mapping[str, Callable[[], object]], rounds: int, warm: bool = True) -> dict[str, list[Taken]]:
    """Time each case in each round, after one (``warm``) that is not timed."""
    taken: dict[str, list[Taken]] = {name: [] for name in cases}
    for run in cases.values() if warm else ():
        run()
    for _ in range(rounds):
        for name, run in cases.items():
            taken[name].append(timed(run))
    return taken


def compare(
    taken: dict[str, list[Taken]],
    ours: str,
    peer: str,
    rest: str,
    limit: float | None = None,
    asked: float | None = None,
) -> Row:
    """The row of two of the cases.

    Args:
        rest: what explains the distance from the limit.
        limit: the ratio that arithmetic or hardware allows.
        asked: the ratio that issue 8 asks for.
    """
    wall = ratio([one.wall for one in taken[ours]], [one.wall for one in taken[peer]])
    cpu = ratio([one.cpu for one in taken[ours]], [one.cpu for one in taken[peer]])
    return Row(ours, peer, cpu, wall, len(taken[ours]), rest, limit, asked)


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
    """Round by round ours to theirs: the median, the least and the greatest."""
    ratios = [own / other for own, other in zip(ours, theirs, strict=True)]
    return Ratio(statistics.median(ratios), min(ratios), max(ratios))


def _cpu_seconds() -> float:
    times = [child.cpu_times() for child in psutil.Process().children(recursive=True)]
    return time.process_time() + sum(each.user + each.system for each in times)
