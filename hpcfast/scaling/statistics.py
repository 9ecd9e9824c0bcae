"""What is chance and what is not: are runs of one cell faster than those of another?

The ratio of two cells is the median of the ratios of all pairs of their runs, and its interval the one that the exact
rank test gives (Hodges and Lehmann 1963): it assumes nothing about how times are spread, and a run that did not
converge is simply infinitely slow.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from hpcfast.report.format import UNKNOWN, count
from hpcfast.scaling.cells import Cell

LEVEL = 0.05
"""Of the interval, two-sided."""


@dataclass(frozen=True)
class Difference:
    """Two cells: times of ``a`` over times of ``b``, so that 2 says that b is twice as fast."""

    a: Cell
    b: Cell
    ratio: float | None = None
    """Infinite, or zero, where most runs of one did not converge."""
    interval: tuple[float, float] | None = None
    """95 % or more."""
    why_none: str = ""
    """Why there is no ratio, or no interval."""

    @property
    def chance(self) -> bool:
        """Whether the interval says that neither is faster."""
        low, high = self.interval or (0.0, math.inf)
        return low <= 1 <= high

    @property
    def ratio_in_words(self) -> str:
        """``3.10 [2.80, 3.40]``; runs that did not converge can make the interval end at 0 or ∞."""
        if self.ratio is None:
            return UNKNOWN
        if self.interval is None:
            return f"{self.ratio:.2f}"
        low, high = self.interval
        return f"{self.ratio:.2f} [{low:.2f}, {f'{high:.2f}' if math.isfinite(high) else '∞'}]"


def difference(a: Cell, b: Cell) -> Difference:
    """How much slower ``a`` is than ``b``, or why that cannot be said."""
    for cell in (a, b):
        if not cell.ended:
            return Difference(a, b, why_none=f"{cell.name}: no run has ended")
        if cell.mixed:
            return Difference(a, b, why_none=f"mixed {', '.join(cell.mixed)}")
    if not a.converged and not b.converged:
        return Difference(a, b, why_none="no run has converged")
    n, m = len(a.ended), len(b.ended)
    ratios = sorted(1.0 if x.time == y.time else x.time / y.time for x in a.ended for y in b.ended)  # inf = inf
    beyond = np.cumsum(_ways(n, m)) / math.comb(n + m, n)
    c = int((beyond <= LEVEL / 2).sum())  # from the c-th smallest to the c-th largest: at most 2.5 % beyond either
    interval = (ratios[c - 1], ratios[-c]) if c else None
    return Difference(
        a, b, median(ratios), interval, "" if c else f"{n} against {count(m, 'run')}: too few to tell anything"
    )


def _ways(n: int, m: int) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """In how many orders of n and m runs u pairs are the wrong way round, for u = 0 to n m (Mann and Whitney 1947)."""
    ways = np.zeros((n + 1, n * m + 1))
    ways[0, 0] = 1
    for rank in range(n + m):
        for chosen in range(min(n, rank + 1), 0, -1):
            wrong = rank - chosen + 1
            ways[chosen, wrong:] += ways[chosen - 1, : n * m + 1 - wrong]
    return ways[n]


def duels(cells: Sequence[Cell]) -> list[Difference]:
    """Each method against the slowest one, at equal nodes; of one data set."""
    times: dict[str, list[float]] = {cell.kind.method: [] for cell in cells}
    for cell in cells:
        times[cell.kind.method] += [row.time for row in cell.ended]
    slowest = max(sorted(times), key=lambda method: median(times[method] or [0.0]))
    found = [
        difference(slow, fast)
        for slow in cells
        for fast in cells
        if slow.kind.method == slowest != fast.kind.method and slow.kind[2:] == fast.kind[2:]
    ]
    return sorted(found, key=lambda duel: duel.b.kind[1:])
