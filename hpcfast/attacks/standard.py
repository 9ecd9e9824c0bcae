"""No attack: standard training, the yardstick."""

from torch import Tensor, nn

from hpcfast.attacks import Attack, Ball, Source


class Standard(Attack):
    """Leave the images as they are."""

    plainly = "No attack: images as they are."
    guarded = False

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, ball: Ball, source: Source) -> Tensor:
        return x
