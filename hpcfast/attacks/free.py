"""Free adversarial training (Shafahi et al., "Adversarial Training for Free!", NeurIPS 2019).

Each batch is replayed; one backward gives the weights' gradients and the perturbation's. The paper carries the
perturbation over to the next batch, whose images are others; here each batch begins at a random start, so that a
run needs no state beyond (seed, step). Epochs are counted before replays: train for 1/``replays`` as many.
"""

from collections.abc import Iterator

from pydantic import PositiveInt
from torch import Tensor, nn

from hpcfast.attacks import Attack, Ball, Criterion, Pixels, Source, input_gradient


class Free(Attack):
    """Several optimizer steps a batch, with a perturbation that moves between them."""

    plainly = "Trains on each batch several times and moves the changes on each time."

    replays: PositiveInt = 4
    """Optimizer steps a batch."""
    alpha: Pixels | None = None
    """Step size of the perturbation. ``null``: eps."""

    @property
    def updates(self) -> int:
        return self.replays

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, ball: Ball, source: Source) -> Tensor:
        """See :meth:`Attack.perturb`: what the second replay would see, were the weights to stay."""
        start = (x + ball.start(x, source)).clamp(0, 1)
        return self._move(x, start, input_gradient(model, start, y), ball)

    def losses(
        self, model: nn.Module, x: Tensor, y: Tensor, ball: Ball, source: Source, criterion: Criterion
    ) -> Iterator[Tensor]:
        x_adv = (x + ball.start(x, source)).clamp(0, 1)
        for _ in range(self.replays):
            x_adv.requires_grad_()
            yield criterion(model(x_adv), y)
            if x_adv.grad is None:
                raise RuntimeError("free: no backward ran on the last loss")
            x_adv = self._move(x, x_adv.detach(), x_adv.grad.nan_to_num(0, 0, 0), ball)

    def _move(self, x: Tensor, x_adv: Tensor, gradient: Tensor, ball: Ball) -> Tensor:
        alpha = ball.eps if self.alpha is None else self.alpha
        return (x + ball.move(x, x_adv - x, gradient, alpha)).clamp(0, 1)
