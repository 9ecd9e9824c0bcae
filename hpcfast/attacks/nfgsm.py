"""N-FGSM: one step from strong noise, without a projection (de Jorge et al., "Make some noise", NeurIPS 2022).

The Euclidean form is ours: Gaussian noise, whose length is nearly the same for all images, about ``noise`` eps. In
high dimensions the published noise for L-infinity, uniform in a cube, is like that too.
"""

from pydantic import PositiveFloat
from torch import Tensor, nn

from hpcfast.attacks import Attack, Ball, Pixels, Source, input_gradient


class Nfgsm(Attack):
    """Noise, then one step (de Jorge et al., NeurIPS 2022).

    For training only: the result is outside the ball.
    """

    plainly = "One step along the gradient from strong noise, which may leave the limit; to train with."
    in_ball = False

    noise: PositiveFloat = 2.0
    """Size of the noise, in eps."""
    alpha: Pixels | None = None
    """Step size. ``null``: eps."""

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, ball: Ball, source: Source) -> Tensor:
        start = (x + self.noise * ball.noise(x, source)).clamp(0, 1)
        alpha = ball.eps if self.alpha is None else self.alpha
        return (start + alpha * ball.climb(start, 0.0, input_gradient(model, start, y))).clamp(0, 1)
