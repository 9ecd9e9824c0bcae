"""Step decay: the classical schedule of CIFAR-10 and ImageNet training."""

from typing import Self

from pydantic import PositiveFloat, field_validator

from hpcfast.optim.position import Position, epoch_of, fixed
from hpcfast.optim.schedules import Schedule


class Step(Schedule):
    """Multiply by ``gamma`` at each of ``milestones``."""

    milestones: tuple[Position, ...]
    """Positions: shares of the run such as ``50%``, or ``50 epochs``."""
    gamma: PositiveFloat = 0.1
    """The factor at each milestone."""

    @field_validator("milestones")
    @classmethod
    def _after_the_start(cls, milestones: tuple[str, ...]) -> tuple[str, ...]:
        if any(epoch_of(milestone, 100) == 0 for milestone in milestones):
            raise ValueError("must be greater than 0; leave the milestone at the start out, and lower optim.lr")
        return milestones

    def after_warmup(self, epoch: float, epochs: float) -> float:
        passed: int = sum(epoch >= epoch_of(milestone, epochs) for milestone in self.milestones)
        return float(self.gamma**passed)

    def fixed(self, epochs: float) -> Self:
        milestones = tuple(fixed(milestone, epochs) for milestone in self.milestones)
        return super().fixed(epochs).model_copy(update={"milestones": milestones})

    def late(self, epochs: float) -> list[str]:
        return [milestone for milestone in self.milestones if epoch_of(milestone, epochs) >= epochs]
