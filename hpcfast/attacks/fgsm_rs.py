"""The fast attack: one step, by default from a random start.

From a random start this is, for L-infinity, FGSM-RS (Wong, Rice, Kolter, "Fast is better than free", ICLR 2020,
algorithm 3) and, for the Euclidean norm, its extension by Goodwin, Brown and Helus (HPEC 2020). From zero it is
the original FGSM (Goodfellow, Shlens, Szegedy, ICLR 2015), whose training is known to collapse: a comparison.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from hpcfast.attacks import Attack, Ball, Pixels, Source, input_gradient


class FgsmRs(Attack):
    """One step from a random start, or from the image."""

    plainly = "One step along the gradient from a random start: fast to train with, too weak to measure with."

    alpha: Pixels | None = None
    """Step size. ``null``: 1.25 eps, as Wong et al. recommend (from zero: cut to eps)."""
    start: Literal["random", "zero"] = "random"
    """``zero``: from the image; known to collapse."""

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, ball: Ball, source: Source) -> Tensor:
        delta = ball.start(x, source) if self.start == "random" else torch.zeros_like(x)
        gradient = input_gradient(model, x + delta, y)
        alpha = 1.25 * ball.eps if self.alpha is None else self.alpha
        return (x + ball.move(x, delta, gradient, alpha)).clamp(0, 1)
