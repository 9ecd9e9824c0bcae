"""Seconds of a training step: compute, plus the communication that the backward pass does not hide.

Few parameters from few runs, by a non-negative least-squares fit of relative errors. Where runs tell how long ranks
waited for one another, communication is fitted to that and compute to the rest.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from hpcfast.errors import UserError

Growth = Literal["tree", "ring", "flat"]
GROWTHS: tuple[Growth, ...] = ("tree", "ring", "flat")
"""How communication may grow with the ranks: like messages of a tree, of a ring, or like traffic alone."""
TOLERATED = 0.01
"""A fit this close, relative, is not worse than a closer one: step times vary by as much."""


class Point(NamedTuple):
    """A measured step: ``seconds`` with ``batch`` images on each of ``ranks`` processes."""

    ranks: int
    batch: float
    seconds: float
    waited: float | None = None
    """Seconds of it in which a rank waited for others, where they were measured."""


@dataclass(frozen=True)
class Steps:
    """A fitted model of step time."""

    coefficients: dict[str, float]
    """Seconds by term: ``image`` and ``fixed`` are compute, ``grown`` and ``flat`` exposed communication."""
    growth: Growth = "tree"

    def seconds(self, ranks: int, batch: float) -> float:
        """Of a step of ``ranks`` processes with ``batch`` images each."""
        terms = _compute(batch) | _communication(ranks, self.growth)
        return sum(seconds * terms[name] for name, seconds in self.coefficients.items())


def fit(points: Sequence[Point], growth: Growth = "tree") -> Steps:
    """Fit a model of step time.

    Of ``k`` places (ranks, batch) it has at most ``max(2, k - 1)`` parameters, in the order image, grown, fixed, flat,
    and none that the data cannot tell from those before it. Where waiting was measured, compute has two and waiting at
    most one less than there are places with several ranks, but one at least.

    Raises:
        UserError: all points have one rank count.
    """
    places = {(p.ranks, p.batch) for p in points}
    if (counts := len({ranks for ranks, _ in places})) < 2:
        raise UserError(f"{counts} rank count measured; a prediction needs at least two")
    computing = [_compute(p.batch) for p in points]
    sending = [_communication(p.ranks, growth) for p in points]
    waited = [p.waited for p in points if p.waited is not None]
    if len(waited) == len(points):
        rest = [p.seconds - wait for p, wait in zip(points, waited, strict=True)]
        several = sum(ranks > 1 for ranks, _ in places)
        return Steps(
            _solve(computing, ("image", "fixed"), rest, points, 2)
            | _solve(sending, ("grown", "flat"), waited, points, max(1, several - 1)),
            growth,
        )
    columns = [one | other for one, other in zip(computing, sending, strict=True)]
    order = ("image", "grown", "fixed", "flat")
    return Steps(_solve(columns, order, [p.seconds for p in points], points, max(2, len(places) - 1)), growth)


def believable(points: Sequence[Point]) -> list[Steps]:
    """Models with other growths of communication that fit about as well as the tree's, which comes first.

    Small runs cannot tell them apart, large ones differ widely: their range is what is not known.
    """
    models = [fit(points, growth) for growth in GROWTHS]
    errors = [[model.seconds(p.ranks, p.batch) / p.seconds - 1 for p in points] for model in models]
    misfits = np.sqrt(np.mean(np.square(errors), axis=1))
    limit = max(2 * misfits.min(), TOLERATED)
    return [model for model, misfit in zip(models, misfits, strict=True) if misfit <= limit or model is models[0]]


def _compute(batch: float) -> dict[str, float]:
    return {"image": batch, "fixed": 1.0}


def _communication(ranks: int, growth: Growth) -> dict[str, float]:
    """Messages one after another, and times that a rank's gradient passes its link; 0 for one rank."""
    flat = 2 * (ranks - 1) / ranks
    grown = {"tree": 2 * math.log2(ranks), "ring": 2.0 * (ranks - 1), "flat": flat}[growth]
    return {"grown": grown, "flat": flat}


def _solve(
    columns: list[dict[str, float]], names: Sequence[str], seconds: Sequence[float], points: Sequence[Point], most: int
) -> dict[str, float]:
    """Coefficients, none negative, of the first ``most`` of ``names`` that can be told apart.

    They make ``seconds`` of ``columns``; errors are relative to whole steps.
    """

    def matrix(chosen: Sequence[str]) -> NDArray[np.float64]:
        return np.array([[row[name] / p.seconds for name in chosen] for row, p in zip(columns, points, strict=True)])

    chosen: list[str] = []
    for name in names:
        tried = matrix([*chosen, name])
        scaled = tried / np.maximum(np.abs(tried).max(axis=0), 1e-300)
        if len(chosen) < most and np.linalg.matrix_rank(scaled, tol=1e-6) > len(chosen):
            chosen.append(name)
    values, _ = nnls(matrix(chosen), np.array([s / p.seconds for s, p in zip(seconds, points, strict=True)]))
    return dict(zip(chosen, map(float, values), strict=True))
