"""What is chance and what is not: are runs of one cell faster than those of another, and is a cell too good to be true?

The ratio of two cells is the median of the ratios of all pairs of their runs, and its interval the one that the exact
rank test gives (Hodges and Lehmann 1963): it assumes nothing about how times are spread, and a run that did not
converge is simply infinitely slow. The test permutes the runs, exactly where there are few; over many cells its
p-values are corrected as Holm (1979) has it.

More nodes make an epoch shorter, not epochs fewer: a cell that needs significantly fewer of them than the fewest nodes
did with the same global batch was trained otherwise - another target, other data, an easier evaluation. MLPerf
refuses such a result (training policies, "RCP"); here it is flagged.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, median, variance

import numpy as np
from scipy.stats import permutation_test, rankdata, ttest_ind_from_stats

from hpcfast.scaling.cells import Cell, time_of

LEVEL = 0.05
"""Of all tests; of the one-sided test of epochs one honest cell in twenty is flagged."""
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
    p = np.array(values, dtype=np.float64)
    order, corrected = np.argsort(p, kind="stable"), np.empty_like(p)
    corrected[order] = np.maximum.accumulate(np.minimum(p[order] * np.arange(len(p), 0, -1), 1.0))
    return [float(value) for value in corrected]


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


@dataclass(frozen=True)
class Epochs:
    """Epochs to the target of the runs that converged: mean, variance of a run, runs."""

    batch: int
    mean: float
    variance: float
    n: int


def suspicious(cell: Cell, among: Iterable[Cell]) -> str:
    """What is suspicious about the epochs that ``cell`` needed, or an empty string.

    The reference are the cells of the same data set and method on the fewest nodes, of either scaling: the one with the
    same global batch, or a line between the two nearest batches. Outside of these batches, and with fewer than two runs
    on either side, nothing can be said.
    """
    own = _epochs(cell)
    alike = [each for each in among if each.key[:2] == cell.key[:2]]
    fewest = min(each.nodes for each in alike)
    if own is None or cell.nodes == fewest:
        return ""
    known = [found for each in alike if each.nodes == fewest and (found := _epochs(each))]
    reference = _at(known, own.batch)
    if reference is None or own.mean >= reference.mean or _chance(own, reference) >= LEVEL:
        return ""
    return (
        f"{own.mean:.3g} epochs to the target, where the reference at a global batch of {own.batch:,} needs "
        f"{reference.mean:.3g}: significantly fewer (p < {LEVEL})"
    )


def _epochs(cell: Cell) -> Epochs | None:
    values = [row.epochs for row in cell.converged if row.epochs is not None]
    if cell.global_batch is None or len(values) < 2:
        return None
    mean = fmean(values)
    return Epochs(cell.global_batch, mean, variance(values, mean), len(values))


def _at(known: list[Epochs], batch: int) -> Epochs | None:
    """The reference at this batch, interpolated in the batch's logarithm."""
    below = max((each for each in known if each.batch <= batch), key=lambda each: each.batch, default=None)
    above = min((each for each in known if each.batch >= batch), key=lambda each: each.batch, default=None)
    if below is None or above is None or below.batch == above.batch:
        return below if above else None
    part = math.log(batch / below.batch) / math.log(above.batch / below.batch)
    mean = below.mean + part * (above.mean - below.mean)
    spread = below.variance + part * (above.variance - below.variance)
    return Epochs(batch, mean, spread, min(below.n, above.n))


def _chance(own: Epochs, reference: Epochs) -> float:
    """Welch's one-sided t-test: how probable so few epochs are, if nothing differs."""
    if own.variance + reference.variance == 0:  # all evaluated at the same epochs; the test needs a spread
        return 0.0
    found = ttest_ind_from_stats(
        own.mean, math.sqrt(own.variance), own.n, reference.mean, math.sqrt(reference.variance), reference.n,
        equal_var=False, alternative="less",
    )  # fmt: skip
    return float(found.pvalue)
