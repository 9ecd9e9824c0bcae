"""Few parameters from few runs: a non-negative least-squares fit of relative errors, its spread and its blind spots."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares, nnls

from hpcfast.errors import UserError
from hpcfast.scaling.predict.model import GROWTHS, Growth, Steps, communication_terms, compute_terms
from hpcfast.scaling.predict.network import Network

ORDER = ("image", "grown", "fixed", "flat")
"""Terms in the order in which data must pay for them."""
TOLERATED = 0.01
"""A fit this close, relative, is not worse than a closer one: that is what step times vary by."""


@dataclass(frozen=True)
class Point:
    """A measured step time: ``seconds`` with ``batch`` images a rank, on ``nodes`` with ``ranks`` processes in all."""

    nodes: int
    ranks: int
    batch: float
    seconds: float
    waited: float | None = None
    """Seconds of it in which a rank waited for others, where they were measured."""

    @property
    def place(self) -> tuple[int, float]:
        """What distinguishes it from a repetition."""
        return self.ranks, self.batch


def steps(points: Sequence[Point], growth: Growth = "tree", network: Network | None = None) -> Steps:
    """Fit a model of step time.

    With ``k`` distinct places (ranks, batch) it has at most ``max(2, k - 1)`` parameters: in ORDER, and none that
    the data cannot tell from those before it. A ``network`` leaves two: ``image`` and ``fixed``. Where all points tell
    how long ranks waited, communication is fitted to that and compute to the rest.

    Raises:
        UserError: all points are at one place, or ``network`` is slower than whole steps were.
    """
    places, ranks = {point.place for point in points}, {point.ranks for point in points}
    apart = all(point.waited is not None for point in points)
    if len(places) < 2 or (network is None and (ranks == {1} if apart else len(ranks) < 2)):
        raise UserError(f"{len(ranks)} rank count measured; a prediction needs at least two")
    if network:
        return _known(points, network)
    sending = [communication_terms(p.ranks, growth) for p in points]
    computing = [compute_terms(p.batch) for p in points]
    if apart:
        waited = [p.waited or 0.0 for p in points]
        computed = [p.seconds - p.waited for p in points if p.waited is not None]
        several = len({p.place for p in points if p.ranks > 1})
        found = _solved(computing, computed, 2, points) | _solved(sending, waited, max(1, several - 1), points)
        return Steps(found, growth)
    columns = [one | other for one, other in zip(sending, computing, strict=True)]
    return Steps(_solved(columns, [p.seconds for p in points], max(2, len(places) - 1), points), growth)


def _solved(
    columns: list[dict[str, float]], seconds: Sequence[float], most: int, points: Sequence[Point]
) -> dict[str, float]:
    """Up to ``most`` coefficients, none negative, that make ``seconds`` of ``columns``, relative to whole steps."""
    chosen = _affordable(columns, most, points)
    values, _ = nnls(_relative(columns, chosen, points), [s / p.seconds for s, p in zip(seconds, points, strict=True)])
    return dict(zip(chosen, (float(value) for value in values), strict=True))


def _known(points: Sequence[Point], network: Network) -> Steps:
    """Fit compute alone; it is not linear, because more compute hides more communication."""
    for point in points:
        if (alone := network.seconds(point.ranks)) > point.seconds:
            whole = (
                f"an allreduce on {point.ranks} ranks would take {alone:.3g} s, a whole step took {point.seconds:.3g} s"
            )
            raise UserError(f"--allreduce: {whole}; measure it with the model and the network of the study")
    columns = [compute_terms(p.batch) for p in points]
    chosen = _affordable(columns, 2, points)
    start, _ = nnls(_relative(columns, chosen, points), np.ones(len(points)))

    def misses(values: NDArray[np.float64]) -> list[float]:
        model = Steps(dict(zip(chosen, values, strict=True)), network=network)
        return [model.seconds(p.ranks, p.batch) / p.seconds - 1 for p in points]

    found = least_squares(misses, start, bounds=(0, np.inf), x_scale=np.maximum(start, 1e-9)).x
    return Steps(dict(zip(chosen, (float(value) for value in found), strict=True)), network=network)


def _affordable(columns: list[dict[str, float]], most: int, points: Sequence[Point]) -> tuple[str, ...]:
    """Up to ``most`` terms in ORDER, none of them a mixture of others."""
    chosen: tuple[str, ...] = ()
    for name in (name for name in ORDER if name in columns[0]):
        matrix = _relative(columns, (*chosen, name), points)
        scaled = matrix / np.maximum(np.abs(matrix).max(axis=0), 1e-300)
        if len(chosen) < most and np.linalg.matrix_rank(scaled, tol=1e-6) > len(chosen):
            chosen = (*chosen, name)
    return chosen


def _relative(columns: list[dict[str, float]], names: tuple[str, ...], points: Sequence[Point]) -> NDArray[np.float64]:
    return np.array([[row[name] / p.seconds for name in names] for row, p in zip(columns, points, strict=True)])


def misfit(model: Steps, points: Sequence[Point]) -> float:
    """Root mean square of relative errors."""
    errors = [model.seconds(p.ranks, p.batch) / p.seconds - 1 for p in points]
    return float(np.sqrt(np.mean(np.square(errors))))


def believable(points: Sequence[Point], network: Network | None = None) -> list[Steps]:
    """Models with other growths of communication that fit about as well as the tree's, which comes first.

    Small runs cannot tell them apart, large ones differ widely: their range is what is not known.
    """
    if network:
        return [steps(points, network=network)]
    models = [steps(points, growth) for growth in GROWTHS]
    limit = max(2 * min(misfit(model, points) for model in models), TOLERATED)
    return [models[0], *(model for model in models[1:] if misfit(model, points) <= limit)]


def resampled(points: Sequence[Point], random: np.random.Generator) -> list[Point]:
    """Draw, at each place, as many repetitions as there are, with replacement (Efron's bootstrap)."""
    places: dict[tuple[int, float], list[Point]] = {}
    for point in points:
        places.setdefault(point.place, []).append(point)
    return [group[i] for group in places.values() for i in random.integers(len(group), size=len(group))]
