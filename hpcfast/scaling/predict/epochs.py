"""Epochs to the target by global batch size.

McCandlish, Kaplan, Amodei et al. 2018, "An Empirical Model of Large-Batch Training": with S steps and E examples to a
given loss, (S / S_min - 1)(E / E_min - 1) = 1, which for batches of B = E / S examples is E = E_min (1 + B / B_noise).

A run looks at its target every so many epochs, and has met it half as many before on average: the law is of the epochs
until the target is met, what is measured and predicted of those until that is seen.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.optimize import nnls

from hpcfast.errors import UserError


class Reached(NamedTuple):
    """A run that met its target: its global batch in images, its epochs and, if measured, its gradient noise scale."""

    batch: int
    epochs: float
    noise_scale: float | None = None
    every: float = 0.0
    """Epochs from one look at the target to the next."""


@dataclass(frozen=True)
class Epochs:
    """``least`` for the smallest batches, ``slope`` more for each image of the global batch, ``late`` for all."""

    least: float
    slope: float | None
    """None: unknown, because all runs had one batch and no noise scale."""
    batches: tuple[int, ...]
    """Those that were measured."""
    origin: str
    """Where ``slope`` is from, in words."""
    late: float
    """From the target met to the look that sees it."""
    unseen: bool
    """Every run met its target before the first look."""

    @property
    def noise(self) -> float | None:
        """The noise scale in images: the batch at which twice the least epochs are needed."""
        if self.slope is None:
            return None
        return self.least / self.slope if self.slope else math.inf

    def at(self, batch: float) -> float | None:
        """Epochs until the target is seen to be met, or None where nothing is known."""
        if self.slope is None and batch not in self.batches:
            return None
        return self.least + (self.slope or 0.0) * batch + self.late


def fit(runs: Sequence[Reached]) -> Epochs:
    """Fit the law to a study's own epochs if it has two batches or more, else take the measured noise scale.

    Raises:
        UserError: no run met its target.
    """
    if not runs:
        raise UserError("no run met its target, so the epochs to it are unknown; look at the study's report")
    batches = tuple(sorted({run.batch for run in runs}))
    met = np.array([max(run.epochs - run.every / 2, run.epochs / 2) for run in runs])
    scales = [run.noise_scale for run in runs if run.noise_scale]
    least, slope, origin = float(np.mean(met)), None, "no noise scale measured, and one batch only"
    if len(batches) > 1:
        fitted, _ = nnls(np.array([[1.0, run.batch] for run in runs]) / met[:, None], np.ones(len(runs)))
        least, slope, origin = float(fitted[0]), float(fitted[1]), "fitted to epochs by batch"
    elif scales:
        noise = float(np.exp(np.mean(np.log(scales))))  # a ratio of noisy numbers: its logarithm is what has a mean
        least /= 1 + batches[0] / noise
        slope, origin = least / noise, "gradient noise scale, measured in training"
    late = float(np.mean([run.every for run in runs])) / 2
    return Epochs(least, slope, batches, origin, late, all(run.epochs <= run.every for run in runs))
