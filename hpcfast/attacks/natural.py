"""No attack: natural training, the yardstick."""

from torch import Tensor, nn

from hpcfast.attacks import Attack
from hpcfast.attacks.balls import Ball
from hpcfast.attacks.noise import Source


class Natural(Attack):
    """Leave the images as they are."""

    guarded = False

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, ball: Ball, source: Source) -> Tensor:
        return x
