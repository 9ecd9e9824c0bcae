"""How long things take, side by side: ratios are what counts, since machines and their load differ.

Cases take turns, so that a busy moment hits all alike, and are compared with what ran in the same round.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import psutil

K = TypeVar("K")


class Taken(NamedTuple):
    """Seconds of one round."""

    wall: float
    cpu: float
    """Of all threads and child processes that are still there."""


class Spread(NamedTuple):
    """A quantity over rounds: the median, the least and the greatest."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}-{self.high:.2f})"


def timed(run: Callable[[], object]) -> Taken:
    """What one call takes."""
    wall, cpu = time.perf_counter(), _cpu_seconds()
    run()
    return Taken(time.perf_counter() - wall, _cpu_seconds() - cpu)


def take_turns(
    cases: Mapping[K, Callable[[], object]],
    rounds: int,
    warm: bool = True,
    before: Callable[[], object] = lambda: None,
) -> dict[K, list[Taken]]:
    """Time each case in each round, after one (``warm``) that is not timed; ``before`` each case, too, is not timed."""
    taken: dict[K, list[Taken]] = {name: [] for name in cases}
    for number in range(not warm, rounds + 1):
        for name, run in cases.items():
            before()
            one = timed(run)
            if number:
                taken[name].append(one)
    return taken


def spread(values: Sequence[float]) -> Spread:
    """Of ``values``, one a round."""
    return Spread(statistics.median(values), min(values), max(values))


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """Round by round ours to theirs."""
    return spread([own / other for own, other in zip(ours, theirs, strict=True)])


def _cpu_seconds() -> float:
    times = [child.cpu_times() for child in psutil.Process().children(recursive=True)]
    return time.process_time() + sum(each.user + each.system for each in times)
