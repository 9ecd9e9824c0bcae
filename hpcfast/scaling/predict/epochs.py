"""Epochs to the target by global batch size.

McCandlish, Kaplan, Amodei et al. 2018, "An Empirical Model of Large-Batch Training": with S steps and E examples to a
given loss, (S / S_min - 1)(E / E_min - 1) = 1, which for batches of B = E / S examples is E = E_min (1 + B / B_noise).
Batches far below the noise scale cost no extra epochs; at the noise scale they cost twice the least.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from hpcfast.errors import UserError


@dataclass(frozen=True)
class Reached:
    """A run that met its target: its global batch in images, its epochs and, if measured, its gradient noise scale."""

    batch: int
    epochs: float
    noise_scale: float | None = None


@dataclass(frozen=True)
class Epochs:
    """``least`` epochs for the smallest batches, and ``slope`` more for each image of the global batch."""

    least: float
    slope: float | None
    """None: unknown, because all runs had one batch and no noise scale."""
    batches: tuple[int, ...]
    """Those that were measured."""
    origin: str
    """Where ``slope`` is from, in words."""

    @property
    def noise(self) -> float | None:
        """The noise scale in images: the batch at which twice the least epochs are needed."""
        if self.slope is None:
            return None
        return self.least / self.slope if self.slope else math.inf

    def at(self, batch: float) -> float | None:
        """Epochs to the target, or None where nothing is known."""
        if self.slope is None:
            return self.least if batch in self.batches else None
        return self.least + self.slope * batch


def fit(runs: Sequence[Reached]) -> Epochs:
    """Fit the law to a study's own epochs if it has two batches or more, else take the measured noise scale.

    Raises:
        UserError: no run met its target.
    """
    if not runs:
        raise UserError("no run met its target, so the epochs to it are unknown; look at the study's report")
    batches = tuple(sorted({run.batch for run in runs}))
    if len(batches) > 1:
        matrix = np.array([[1 / run.epochs, run.batch / run.epochs] for run in runs])
        (least, slope), _ = nnls(matrix, np.ones(len(runs)))
        return Epochs(float(least), float(slope), batches, "fitted to epochs by batch")
    mean = float(np.mean([run.epochs for run in runs]))
    scales = [run.noise_scale for run in runs if run.noise_scale]
    if not scales:
        return Epochs(mean, None, batches, "no noise scale measured, and one batch only")
    noise = float(np.exp(np.mean(np.log(scales))))  # a ratio of noisy numbers: its logarithm is what has a mean
    least = mean / (1 + batches[0] / noise)
    return Epochs(least, least / noise, batches, "gradient noise scale, measured in training")
