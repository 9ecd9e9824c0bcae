"""No attack: standard training, the yardstick."""

from torch import Tensor, nn

from hpcfast.attacks import Attack
from hpcfast.attacks.norms import Ball
from hpcfast.attacks.rng import Source


class Standard(Attack):
    """Leave the images as they are."""

    guarded = False

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, ball: Ball, source: Source) -> Tensor:
        return x
