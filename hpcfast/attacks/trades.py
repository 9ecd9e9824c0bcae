"""TRADES: accuracy plus agreement between an image and its neighbourhood (Zhang et al., ICML 2019)."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn

from hpcfast.attacks import Attack, Ball, Criterion, Pixels, Source, gradient, rng


class Trades(Attack):
    """The loss of clean images + ``beta`` * KL(p(x) ‖ p(x')), where x' maximises the divergence.

    The search starts from x + 0.001 N(0,1), as published.
    """

    plainly = "Several steps that change the network's answer as much as they can, whatever is right."

    steps: PositiveInt = 10
    """Of the search for x'."""
    alpha: Pixels | None = None
    """Step size. ``null``: 2.5 eps / steps."""
    beta: PositiveFloat = 6.0
    """Weight of the divergence."""

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, ball: Ball, source: Source) -> Tensor:
        """See :meth:`Attack.perturb`; true classes play no part."""
        alpha = 2.5 * ball.eps / self.steps if self.alpha is None else self.alpha
        with torch.no_grad():
            clean = model(x)
        delta = (x + 0.001 * rng.normal(x, source)).clamp(0, 1) - x
        for _ in range(self.steps):
            climb = gradient(lambda images: divergence(clean, model(images)), x + delta)
            delta = ball.move(x, delta, climb, alpha)
        return (x + delta).clamp(0, 1)

    def losses(
        self, model: nn.Module, x: Tensor, y: Tensor, ball: Ball, source: Source, criterion: Criterion
    ) -> Iterator[Tensor]:
        x_adv = self.perturb(model, x, y, ball, source)
        logits = model(x)
        yield criterion(logits, y) + self.beta * divergence(logits, model(x_adv)) / len(x)


def divergence(clean: Tensor, adversarial: Tensor) -> Tensor:
    """KL(p ‖ p') summed over images, of the distributions that these logits (n, classes) give."""
    return F.kl_div(adversarial.log_softmax(1), clean.log_softmax(1), reduction="sum", log_target=True)
