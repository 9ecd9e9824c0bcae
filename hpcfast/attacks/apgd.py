"""Auto-PGD, to measure with: the two attacks of AutoAttack that do nearly all of its work.

APGD on the cross-entropy, then targeted APGD on the difference-of-logits ratio (Croce and Hein, ICML 2020), as
AutoAttack's standard version runs them, by the authors' own code (PyPI: pyautoattack). PGD flatters models that
were trained with one step; this does not.
"""

import logging
from typing import Any

import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor, nn

from hpcfast.attacks import Attack, noise
from hpcfast.attacks.balls import Ball
from hpcfast.attacks.noise import Source, select

# What the library has to say (a gradient is zero), it says here: to nobody, unless somebody configures logging.
_LOG = logging.getLogger(__name__)
_LOG.addHandler(logging.NullHandler())


class Apgd(Attack):
    """``steps`` on the cross-entropy, then as many towards each of the ``targets`` likeliest wrong classes.

    With fewer wrong classes than ``targets``: towards all. The ratio needs four classes: with three the
    cross-entropy of the target replaces it, and with two there is no target but the first attack's own. The worst
    case of each image: none of an image's attacks follows the first that fools it; an image that holds comes
    back as the point of greatest cross-entropy, and one that is misclassified as it is comes back unchanged.
    """

    guarded = False

    steps: PositiveInt = 100
    targets: NonNegativeInt = 9

    @torch.no_grad()
    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, ball: Ball, source: Source) -> Tensor:
        """See :meth:`Attack.perturb`.

        The library draws its starts from torch's global generator. Each run is given a start from ``source``
        instead, of the same distribution, and the global generator is put back.
        """
        x = x.contiguous()  # the library takes views
        worst, logits = x.clone(), model(x)
        ranking = logits.argsort(1, descending=True)
        held = (ranking[:, 0] == y).nonzero().squeeze(1)
        with torch.random.fork_rng(devices=[]):
            for i, attack in enumerate(self._attacks(model, x, ball, logits.shape[1])):
                if len(held) == 0:
                    break
                attack.y_target = ranking[held, i]  # the first attack has no target
                start = _start(attack, x[held], select(source, held))
                best, acc, _, fooling = attack.attack_single_run(x[held], y[held], x_init=start)
                fooled = acc == 0
                if i == 0:
                    worst[held] = best
                worst[held[fooled]] = fooling[fooled]
                held = held[~fooled]
        return worst

    def _attacks(self, model: nn.Module, x: Tensor, ball: Ball, classes: int) -> list[Any]:
        """The untargeted attack, then one object as often as there are targets."""
        from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted

        common = {"n_iter": self.steps, "norm": type(ball).__name__, "eps": ball.eps, "logger": _LOG}
        untargeted, targeted = APGDAttack(model, **common), APGDAttack_targeted(model, **common)
        if classes < 4:
            targeted.loss = "ce-targeted"
        for attack in (untargeted, targeted):
            attack.init_hyperparam(x)
        return [untargeted] + [targeted] * (min(self.targets, classes - 1) if classes > 2 else 0)


def _start(attack: Any, x: Tensor, source: Source) -> Tensor:
    """Random points on the ball's surface, as the library draws them."""
    draw = noise.normal(x, source) if attack.norm == "L2" else 2 * noise.uniform(x, source) - 1
    return x + attack.eps * attack.normalize(draw)
