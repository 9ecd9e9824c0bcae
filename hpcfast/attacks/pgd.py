"""Projected gradient descent (Madry et al., ICLR 2018), for training and, with restarts, for evaluation."""

import torch
import torch.nn.functional as F
from pydantic import PositiveInt
from torch import Tensor, nn

from hpcfast.attacks import Attack, Ball, Pixels, Source, Try, gradient, input_gradient, margin, rng


class Pgd(Attack):
    """Projected gradient descent from random starts; the worst result of each image counts."""

    plainly = "Many small steps along the gradient, the worst of several random starts (50 x 10: 50 steps, 10 starts)."

    steps: PositiveInt = 7
    """Of each start."""
    alpha: Pixels | None = None
    """Step size. ``null``: 2.5 eps / steps."""
    restarts: PositiveInt = 1
    """Random starts."""

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, ball: Ball, source: Source) -> Tensor:
        """A restart attacks only images that no earlier one has fooled, and only a worse result replaces an image's."""
        worst = self._climb(model, x, y, ball, source)
        for _ in range(self.restarts - 1):
            margins = _margin(model, worst, y)
            rows = (margins <= 0).nonzero().squeeze(1)
            if len(rows) == 0:
                break
            trial = self._climb(model, x[rows], y[rows], ball, rng.select(source, rows))
            better = _margin(model, trial, y[rows]) > margins[rows]
            worst[rows[better]] = trial[better]
        return worst

    def tries(self, ball: Ball, classes: int) -> dict[str, Try]:
        return {f"pgd {number}": self.search for number in range(1, self.restarts + 1)}

    def search(self, model: nn.Module, x: Tensor, y: Tensor, ball: Ball, source: Source) -> Tensor:
        """Like one run of :meth:`perturb`, for measuring: an image that is fooled on the way stays where it is.

        Most images that can be fooled are so after a few steps. They leave the batch, a quarter of it or more at a
        time, because libraries prepare anew for every size of a batch.
        """
        delta, rows = ball.start(x, source), torch.arange(len(x), device=x.device)
        for _ in range(self.steps):
            uphill, margins = _look(model, (x + delta)[rows], y[rows])
            holding = margins <= 0
            moved = ball.move(x[rows], delta[rows], uphill, self._alpha(ball))
            delta[rows[holding]] = moved[holding]
            if holding.sum() <= 0.75 * len(rows):
                rows = rows[holding]
            if len(rows) == 0:
                break
        return (x + delta).clamp(0, 1)

    def _alpha(self, ball: Ball) -> float:
        return 2.5 * ball.eps / self.steps if self.alpha is None else self.alpha

    def _climb(self, model: nn.Module, x: Tensor, y: Tensor, ball: Ball, source: Source) -> Tensor:
        delta = ball.start(x, source)
        for _ in range(self.steps):
            delta = ball.move(x, delta, input_gradient(model, x + delta, y), self._alpha(ball))
        return (x + delta).clamp(0, 1)


def _look(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The way uphill at ``x``, of its shape, and the margins there, shape (n,)."""
    margins: list[Tensor] = []

    def loss(images: Tensor) -> Tensor:
        logits = model(images)
        margins.append(margin(logits.detach(), y))
        return F.cross_entropy(logits, y, reduction="sum")

    return gradient(loss, x), margins[0]


@torch.no_grad()
def _margin(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return margin(model(x), y)
