"""Piecewise-linear schedules, such as the triangle of fast adversarial training (Wong, Rice, Kolter 2020)."""

from itertools import pairwise

import numpy as np
from pydantic import NonNegativeFloat, model_validator

from hpcfast.optim.schedules import Schedule


class Piecewise(Schedule):
    """Linear between ``knots``, constant outside them."""

    knots: tuple[tuple[NonNegativeFloat, NonNegativeFloat], ...]
    """Pairs of (epoch, factor), in increasing order of epoch."""

    @model_validator(mode="after")
    def _increasing(self) -> "Piecewise":
        epochs = [epoch for epoch, _ in self.knots]
        if not epochs or any(a >= b for a, b in pairwise(epochs)):
            raise ValueError(f"knots: epochs {epochs} must increase; write e.g. [[0, 0], [2, 1], [5, 0]]")
        return self

    def after_warmup(self, epoch: float, epochs: float) -> float:
        at, factors = zip(*self.knots, strict=True)
        return float(np.interp(epoch, at, factors))
