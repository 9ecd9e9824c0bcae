"""GradAlign: FGSM, and a reward for gradients that agree inside the ball.

Andriushchenko and Flammarion, "Understanding and Improving Fast Adversarial Training", NeurIPS 2020. As in
their code, the step starts at the clean image, whose gradient serves the step and, detached, the penalty; an
image without a gradient counts for nothing in the penalty.
"""

from collections.abc import Iterator

import torch
from pydantic import PositiveFloat
from torch import Tensor, nn

from hpcfast.attacks import Attack, Ball, Criterion, Source, input_gradient
from hpcfast.attacks.norms import L2


class Gradalign(Attack):
    """The FGSM loss + ``weight`` * the misalignment of the gradients at x and at a random point of the ball."""

    plainly = "One step along the gradient, with a reward for networks whose gradients agree nearby."

    weight: PositiveFloat = 0.2
    """Of the misalignment in the loss."""

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, ball: Ball, source: Source) -> Tensor:
        return _step(x, input_gradient(model, x, y), ball)

    def losses(
        self, model: nn.Module, x: Tensor, y: Tensor, ball: Ball, source: Source, criterion: Criterion
    ) -> Iterator[Tensor]:
        here = input_gradient(model, x, y)
        there = input_gradient(model, x + ball.random(x, source), y, create_graph=True)
        loss = criterion(model(_step(x, here, ball)), y)
        yield loss + self.weight * misalignment(here, there)


def misalignment(one: Tensor, other: Tensor) -> Tensor:
    """1 - the mean cosine between the rows of two gradients; rows that are zero in either are left out."""
    both = one.flatten(1).any(1) & other.flatten(1).any(1)
    unit = [L2(1).normalise(rows).flatten(1) for rows in (one, other)]
    cosine = (unit[0] * unit[1]).sum(1)
    return ((1 - cosine) * both).sum() / both.sum().clamp_min(1)


def _step(x: Tensor, gradient: Tensor, ball: Ball) -> Tensor:
    return (x + ball.move(x, torch.zeros_like(x), gradient, ball.eps)).clamp(0, 1)
