"""Piecewise-linear schedules, such as the triangle of fast adversarial training (Wong, Rice, Kolter 2020)."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Self

import numpy as np
from pydantic import NonNegativeFloat, model_validator

from hpcfast.optim.position import Position, epoch_of, fixed
from hpcfast.optim.schedules import Schedule


class Piecewise(Schedule):
    """Linear between ``knots``, constant outside them."""

    knots: tuple[tuple[Position, NonNegativeFloat], ...]
    """Pairs of (position, factor) in order: positions are shares of the run such as ``30%``, or ``3 epochs``."""

    @model_validator(mode="after")
    def _increasing(self) -> "Piecewise":
        positions = [position for position, _ in self.knots]
        for unit in ("%", " epochs"):
            alike = [epoch_of(position, 100) for position in positions if position.endswith(unit)]
            if not positions or any(a >= b for a, b in pairwise(alike)):
                raise ValueError(f"knots: {positions} must increase; write e.g. [[0, 0], [30%, 1], [100%, 0]]")
        return self

    def after_warmup(self, epoch: float, epochs: float) -> float:
        at = [epoch_of(position, epochs) for position, _ in self.knots]
        return float(np.interp(epoch, at, [factor for _, factor in self.knots]))

    def problems(self, epochs: float) -> Iterator[str]:
        yield from super().problems(epochs)
        for (first, _), (second, _) in pairwise(self.knots):
            if epoch_of(first, epochs) >= epoch_of(second, epochs):
                yield f"knots: {second} is no later than {first} in a run of {epochs:g} epochs; write both as shares"

    def fixed(self, epochs: float) -> Self:
        knots = tuple((fixed(position, epochs), factor) for position, factor in self.knots)
        return super().fixed(epochs).model_copy(update={"knots": knots})

    def late(self, epochs: float) -> list[str]:
        return [position for position, _ in self.knots if epoch_of(position, epochs) > epochs]
