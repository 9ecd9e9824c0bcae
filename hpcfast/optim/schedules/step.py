"""Step decay: the classical schedule of CIFAR-10 and ImageNet training."""

from pydantic import PositiveFloat

from hpcfast.optim.schedules import Schedule


class Step(Schedule):
    """Multiply by ``gamma`` at each of ``milestones``."""

    milestones: tuple[PositiveFloat, ...]
    """Epochs."""
    gamma: PositiveFloat = 0.1
    """The factor at each milestone."""

    def after_warmup(self, epoch: float, epochs: float) -> float:
        passed: int = sum(epoch >= milestone for milestone in self.milestones)
        return float(self.gamma**passed)
