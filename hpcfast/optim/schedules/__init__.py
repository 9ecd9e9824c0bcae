"""Learning-rate schedules: pure functions of the epoch. To add one, add a file with a :class:`Schedule`."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Self

from hpcfast.component import Component
from hpcfast.optim.position import Position, epoch_of, fixed


class Schedule(Component, ABC):
    """A factor on the learning rate."""

    warmup: Position = "0%"
    """How long it rises linearly, which makes the linear scaling rule safe for large batches (Goyal et al. 2017): a
    share of the run such as ``5%``, or ``5 epochs``."""

    @abstractmethod
    def after_warmup(self, epoch: float, epochs: float) -> float:
        """Factor at ``epoch`` (fractional, from 0) of ``epochs``."""

    def factor(self, epoch: float, epochs: float) -> float:
        """What the learning rate is multiplied by at ``epoch`` (fractional, from 0) of ``epochs``."""
        warmup = epoch_of(self.warmup, epochs)
        ramp = min(1.0, epoch / warmup) if warmup else 1.0
        return ramp * self.after_warmup(epoch, epochs)

    def problems(self, epochs: float) -> Iterator[str]:
        """What is wrong with it in a run of so many ``epochs``, as ``key: problem; cure``."""
        if epoch_of(self.warmup, epochs) >= epochs:
            yield f"warmup: {self.warmup} must be less than the run's {epochs:g} epochs; write a share, such as 10%"

    def fixed(self, epochs: float) -> Self:
        """The same in a run of so many ``epochs``, with all positions in epochs."""
        return self.model_copy(update={"warmup": fixed(self.warmup, epochs)})

    def late(self, epochs: float) -> list[str]:
        """Its positions that a run of so many ``epochs`` does not reach."""
        return []
