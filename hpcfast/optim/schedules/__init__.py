"""Learning-rate schedules: pure functions of the epoch. To add one, add a file with a :class:`Schedule`."""

from abc import ABC, abstractmethod

from pydantic import NonNegativeFloat

from hpcfast.component import Component


class Schedule(Component, ABC):
    """A factor on the learning rate."""

    warmup: NonNegativeFloat = 0.0
    """Epochs of linear warm-up, which makes the linear scaling rule safe for large batches (Goyal et al. 2017)."""

    @abstractmethod
    def after_warmup(self, epoch: float, epochs: float) -> float:
        """Factor at ``epoch`` (fractional, from 0) of ``epochs``."""

    def factor(self, epoch: float, epochs: float) -> float:
        """What the learning rate is multiplied by at ``epoch`` (fractional, from 0) of ``epochs``."""
        ramp = min(1.0, epoch / self.warmup) if self.warmup else 1.0
        return ramp * self.after_warmup(epoch, epochs)
