"""Is a cell too good to be true? MLPerf's check against reference convergence points.

More nodes make an epoch shorter, not epochs fewer: a cell that needs significantly fewer of them than the fewest nodes
did with the same global batch was trained otherwise - another target, other data, an easier evaluation. MLPerf
refuses such a result (training policies, "RCP"); here it is flagged.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean, variance

from hpcfast.scaling.statistics import Cell

LEVEL = 0.05
"""Of the one-sided test; one honest cell in twenty is flagged."""


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

    def between(one: float, other: float) -> float:
        return one + part * (other - one)

    n = min(below.n, above.n)
    return Epochs(batch, between(below.mean, above.mean), between(below.variance, above.variance), n)


def _chance(own: Epochs, reference: Epochs) -> float:
    """Welch's one-sided t-test: how probable so few epochs are, if nothing differs."""
    if own.variance + reference.variance == 0:  # all evaluated at the same epochs; the test needs a spread
        return 0.0
    from scipy.stats import ttest_ind_from_stats

    found = ttest_ind_from_stats(
        own.mean, math.sqrt(own.variance), own.n, reference.mean, math.sqrt(reference.variance), reference.n,
        equal_var=False, alternative="less",
    )  # fmt: skip
    return float(found.pvalue)
