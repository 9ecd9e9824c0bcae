"""Seconds of a training step: compute, plus the communication that the backward pass does not hide.

Few parameters from few runs, by a non-negative least-squares fit of relative errors. Where runs tell how long ranks
waited for one another, communication is fitted to that and compute to the rest.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
from scipy.optimize import nnls

from hpcfast.errors import UserError

Growth = Literal["tree", "ring", "flat"]
GROWTHS: tuple[Growth, ...] = get_args(Growth)
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
        terms = _terms(ranks, batch, self.growth)
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
    waited = [p.waited for p in points if p.waited is not None]
    if len(waited) < len(points):
        order = ("image", "grown", "fixed", "flat")
        return Steps(_solve(points, growth, [p.seconds for p in points], order, max(2, len(places) - 1)), growth)
    computed = [p.seconds - wait for p, wait in zip(points, waited, strict=True)]
    most = max(1, sum(ranks > 1 for ranks, _ in places) - 1)
    compute = _solve(points, growth, computed, ("image", "fixed"), 2)
    return Steps(compute | _solve(points, growth, waited, ("grown", "flat"), most), growth)


def believable(points: Sequence[Point]) -> list[Steps]:
    """Models with other growths of communication that fit about as well as the tree's, which comes first.

    Small runs cannot tell them apart, large ones differ widely: their range is what is not known.
    """
    models = [fit(points, growth) for growth in GROWTHS]
    errors = [[model.seconds(p.ranks, p.batch) / p.seconds - 1 for p in points] for model in models]
    misfits = np.sqrt(np.mean(np.square(errors), axis=1))
    limit = max(2 * misfits.min(), TOLERATED)
    return [model for model, misfit in zip(models, misfits, strict=True) if misfit <= limit or model is models[0]]


def _terms(ranks: int, batch: float, growth: Growth) -> dict[str, float]:
    """What each coefficient counts: images, steps, messages one after another, and times that a gradient is sent."""
    flat = 2 * (ranks - 1) / ranks
    grown = {"tree": 2 * math.log2(ranks), "ring": 2.0 * (ranks - 1), "flat": flat}[growth]
    return {"image": batch, "fixed": 1.0, "grown": grown, "flat": flat}


def _solve(
    points: Sequence[Point], growth: Growth, seconds: Sequence[float], names: Sequence[str], most: int
) -> dict[str, float]:
    """Fit ``seconds`` by the first ``most`` of the terms ``names`` that can be told apart; relative to whole steps."""
    whole = np.array([p.seconds for p in points])
    terms = [_terms(p.ranks, p.batch, growth) for p in points]
    columns = {name: np.array([row[name] for row in terms]) / whole for name in names}
    chosen: list[str] = []
    for name in names:
        tried = np.column_stack([columns[each] for each in (*chosen, name)])
        scaled = tried / np.maximum(np.abs(tried).max(axis=0), 1e-300)
        if len(chosen) < most and np.linalg.matrix_rank(scaled, tol=1e-6) > len(chosen):
            chosen.append(name)
    values, _ = nnls(np.column_stack([columns[name] for name in chosen]), np.array(seconds) / whole)
    return dict(zip(chosen, map(float, values), strict=True))
