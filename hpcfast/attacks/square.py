"""Square Attack (Andriushchenko et al., ECCV 2020): random search with square patches, to measure with.

It sees logits only. A model that it fools where gradient attacks fail hides its gradients. The code is the
authors' (PyPI: pyautoattack).
"""

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from hpcfast.attacks import Attack, Ball, Source

SEED = 0


class Square(Attack):
    """Random search with patches, the same ones on all images; it sees logits only.

    The authors' code shares most of what it draws among the images of a batch. Here all images share all of it, from
    one seed, so that no image's outcome depends on those that it is attacked together with.
    """

    plainly = "Tries square patches at random and looks at the network's answers only, not at gradients."
    guarded = False
    trains = False

    queries: PositiveInt = 5000
    """Patches tried on each image."""

    @torch.no_grad()
    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, ball: Ball, source: Source) -> Tensor:
        """See :meth:`Attack.perturb`; images that hold come back as they were."""
        from pyautoattack.square import SquareAttack

        class Shared(SquareAttack):
            def random_choice(self, shape: list[int]) -> Tensor:
                if len(shape) < 4:
                    return super().random_choice(shape)
                return super().random_choice([1, *shape[1:]]).expand(shape)  # the signs of one image, for all

        settings = {"norm": type(ball).__name__, "n_queries": self.queries, "eps": ball.eps, "seed": SEED}
        attack = Shared(model, **settings, p_init=0.8, resc_schedule=False)
        with torch.random.fork_rng(devices=[]):
            return attack.perturb(x.contiguous(), y).clamp(0, 1)  # for L1 it leaves [0,1] by a rounding
