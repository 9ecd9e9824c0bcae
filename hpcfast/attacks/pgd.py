"""Projected gradient descent (Madry et al., ICLR 2018), for training and, with restarts, for evaluation."""

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from hpcfast.attacks import Attack, input_gradient, margin
from hpcfast.attacks.balls import Ball, Pixels
from hpcfast.attacks.noise import Source, select


class Pgd(Attack):
    """``steps`` steps of size ``alpha`` (by default 2.5 eps / steps), the worst of ``restarts`` random starts."""

    steps: PositiveInt = 7
    alpha: Pixels | None = None
    restarts: PositiveInt = 1

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, ball: Ball, source: Source) -> Tensor:
        """See :meth:`Attack.perturb`.

        A restart attacks only the images that no earlier one has fooled, and replaces an image's result only
        by a worse one, so that each image ends as its worst case.
        """
        worst = self._climb(model, x, y, ball, source)
        for _ in range(self.restarts - 1):
            margins = _margin(model, worst, y)
            rows = (margins <= 0).nonzero().squeeze(1)
            if len(rows) == 0:
                break
            trial = self._climb(model, x[rows], y[rows], ball, select(source, rows))
            better = _margin(model, trial, y[rows]) > margins[rows]
            worst[rows[better]] = trial[better]
        return worst

    def _climb(self, model: nn.Module, x: Tensor, y: Tensor, ball: Ball, source: Source) -> Tensor:
        alpha = 2.5 * ball.eps / self.steps if self.alpha is None else self.alpha
        delta = ball.start(x, source)
        for _ in range(self.steps):
            delta = ball.move(x, delta, input_gradient(model, x + delta, y), alpha)
        return (x + delta).clamp(0, 1)


@torch.no_grad()
def _margin(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return margin(model(x), y)
