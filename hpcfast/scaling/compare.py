"""Is one study faster than another, or is it the seeds?

The ratio of two cells is the median of the ratios of all pairs of their runs, and its interval the one that the exact
rank test gives (Hodges and Lehmann 1963): it assumes nothing about how times are spread, and a run that did not
converge is simply infinitely slow. The test permutes the runs, exactly where there are few; over many cells its
p-values are corrected as Holm (1979) has it.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np
from scipy.stats import permutation_test, rankdata

from hpcfast.scaling.rows import Row
from hpcfast.scaling.statistics import Cell, cells, count, time_of

LEVEL = 0.05
EXACT = 20_000
"""Up to so many permutations all are tried: up to eight runs against eight."""


@dataclass(frozen=True)
class Difference:
    """Times of ``a`` over times of ``b``: 2 says that b is twice as fast."""

    ratio: float
    """Infinite, or zero, where most runs of one did not converge."""
    interval: tuple[float, float] | None
    """95 % or more; None if there are too few runs for one."""
    p: float
    """Of the two-sided exact permutation test of ranks, not corrected."""
    runs: tuple[int, int]

    @property
    def too_few(self) -> str:
        """Why nothing can be told from so few runs, or an empty string."""
        if self.interval is not None:
            return ""
        least = 2 / math.comb(sum(self.runs), self.runs[0])
        return f"{self.runs[0]} against {self.runs[1]} runs have p >= {least:.2g}: too few to tell anything"


@dataclass(frozen=True)
class Compared:
    """A cell in two studies."""

    a: Cell
    b: Cell
    difference: Difference | None
    why_none: str = ""
    p_corrected: float | None = None
    """By Holm, over all cells that are compared."""
    notes: tuple[str, ...] = ()
    """What else differs between the two."""

    @property
    def verdict(self) -> str:
        if self.difference is None:
            return self.why_none
        if self.difference.too_few:
            return self.difference.too_few
        if self.p_corrected is None or self.p_corrected >= LEVEL:
            return "no significant difference"
        return "B is faster" if self.difference.ratio > 1 else "A is faster"


def compare(a: Iterable[Row], b: Iterable[Row]) -> list[Compared]:
    """Every cell that both studies have."""
    others = {cell.key: cell for cell in cells(b)}
    found = [_pair(cell, others[cell.key]) for cell in cells(a) if cell.key in others]
    corrected = iter(holm([each.difference.p for each in found if each.difference]))
    return [replace(each, p_corrected=next(corrected)) if each.difference else each for each in found]


def difference(a: Cell, b: Cell) -> Difference | str:
    """How much slower ``a`` is than ``b``, or why that cannot be said."""
    for cell in (a, b):
        if not cell.ended:
            return "no run has ended" if len({a.key, b.key}) == 1 else f"{cell.name}: no run has ended"
        if cell.mixed:
            return f"mixed {', '.join(cell.mixed)}"
    if a.target != b.target:
        return f"the targets differ: {a.target}, {b.target}"
    if not a.converged and not b.converged:
        return "no run has converged"
    slow, fast = ([time_of(row) for row in cell.ended] for cell in (a, b))
    ratios = sorted(1.0 if x == y else x / y for x in slow for y in fast)  # inf = inf: both never
    return Difference(median(ratios), _interval(ratios, len(slow), len(fast)), _p(slow, fast), (len(slow), len(fast)))


def holm(values: Sequence[float]) -> list[float]:
    """p-values such that the chance of even one false finding among all stays what it says (Holm 1979)."""
    order = sorted(range(len(values)), key=lambda i: values[i])
    corrected, largest = [0.0] * len(values), 0.0
    for place, i in enumerate(order):
        largest = max(largest, min(1.0, (len(values) - place) * values[i]))
        corrected[i] = largest
    return corrected


def _pair(a: Cell, b: Cell) -> Compared:
    found = difference(a, b)
    notes = []
    for field in ("hardware", "versions", "global_batch"):
        one, other = ({getattr(row, field) for row in cell.ended} for cell in (a, b))
        if one != other:
            notes.append(f"{field.replace('_', ' ')}: A {_listed(one)}, B {_listed(other)}")
    notes += [f"{name} lacks {count(len(cell.absent), 'run')}" for name, cell in (("A", a), ("B", b)) if cell.absent]
    if isinstance(found, str):
        return Compared(a, b, None, found, notes=tuple(notes))
    return Compared(a, b, found, notes=tuple(notes))


def _listed(values: set[object]) -> str:
    return " and ".join(sorted(str(value) for value in values)) or "nothing"


def _interval(ratios: list[float], n: int, m: int) -> tuple[float, float] | None:
    """From the c-th smallest to the c-th largest of all pairs; c leaves at most 2.5 % beyond either end."""
    beyond = np.cumsum(_ways(n, m)) / math.comb(n + m, n)
    c = int((beyond <= LEVEL / 2).sum())
    return (ratios[c - 1], ratios[-c]) if c else None


def _ways(n: int, m: int) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """In how many orders of n and m runs u pairs are the wrong way round, for u = 0 to n m (Mann and Whitney 1947)."""
    ways = np.zeros((n + 1, n * m + 1))
    ways[0, 0] = 1
    for rank in range(n + m):
        for chosen in range(min(n, rank + 1), 0, -1):
            wrong = rank - chosen + 1
            ways[chosen, wrong:] += ways[chosen - 1, : n * m + 1 - wrong]
    return ways[n]


def _p(a: list[float], b: list[float]) -> float:
    if min(len(a), len(b)) < 2:  # which the test refuses, and one run can tell nothing
        return 1.0
    ranks = rankdata([*a, *b])
    found = permutation_test(
        (ranks[: len(a)], ranks[len(a) :]), lambda x, y, axis: x.mean(axis) - y.mean(axis), vectorized=True,
        n_resamples=EXACT, rng=0,
    )  # fmt: skip
    return float(found.pvalue)
