"""The fast attack: one step from a random start.

For L-infinity this is FGSM-RS (Wong, Rice, Kolter, "Fast is better than free", ICLR 2020, algorithm 3), for the
Euclidean norm its extension by Goodwin, Brown and Helus (HPEC 2020).
"""

from torch import Tensor, nn

from hpcfast.attacks import Attack, input_gradient
from hpcfast.attacks.balls import Ball, Pixels
from hpcfast.attacks.noise import Source


class Fgsm(Attack):
    """One step of size ``alpha``; by default 1.25 eps, as Wong et al. recommend."""

    alpha: Pixels | None = None

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, ball: Ball, source: Source) -> Tensor:
        delta = ball.start(x, source)
        gradient = input_gradient(model, x + delta, y)
        alpha = 1.25 * ball.eps if self.alpha is None else self.alpha
        return (x + ball.move(x, delta, gradient, alpha)).clamp(0, 1)
