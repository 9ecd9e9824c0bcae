"""Square Attack (Andriushchenko et al., ECCV 2020): random search with square patches, to measure with.

It sees logits only. A model that it fools where gradient attacks fail hides its gradients. The code is the
authors' (PyPI: pyautoattack).
"""

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from hpcfast.attacks import Attack, noise
from hpcfast.attacks.balls import Ball
from hpcfast.attacks.noise import Source


class Square(Attack):
    """``queries`` patches tried on each image; what it draws depends on the images it attacks together."""

    guarded = False
    trains = False

    queries: PositiveInt = 5000

    @torch.no_grad()
    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, ball: Ball, source: Source) -> Tensor:
        """See :meth:`Attack.perturb`; images that hold come back as they were."""
        from pyautoattack.square import SquareAttack

        attack = SquareAttack(
            model,
            norm=type(ball).__name__,
            n_queries=self.queries,
            eps=ball.eps,
            p_init=0.8,
            resc_schedule=False,
            seed=noise.seed(source),
        )
        with torch.random.fork_rng(devices=[]):
            return attack.perturb(x.contiguous(), y).clamp(0, 1)  # for L1 it leaves [0,1] by a rounding
