"""Auto-PGD, to measure with: the two attacks of AutoAttack that do nearly all of its work.

APGD on the cross-entropy, then targeted APGD on the difference-of-logits ratio (Croce and Hein, ICML 2020), as
AutoAttack's standard version runs them, by the authors' own code (PyPI: pyautoattack). PGD flatters models that
were trained with one step; this does not.
"""

import logging
import math
from functools import partial
from typing import Any

import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor, nn

from hpcfast.attacks import Attack, Ball, Source, Try, rng

# Where the library says that a gradient is zero: to nobody, unless somebody configures logging.
_LOG = logging.getLogger(__name__)
_LOG.addHandler(logging.NullHandler())


class Apgd(Attack):
    """``steps`` on the cross-entropy, then as many towards each of the ``targets`` likeliest wrong classes.

    With fewer wrong classes than ``targets``: towards all. The ratio needs four classes: with three the
    cross-entropy of the target replaces it, and with two there is no target but the first attack's own. The worst
    case of each image: none of an image's attacks follows the first that fools it; an image that holds comes
    back as the point of greatest cross-entropy, and one that is misclassified as it is comes back unchanged.
    """

    plainly = (
        "PGD that chooses its steps' size itself, then aims at each of the likeliest wrong classes; most of AutoAttack."
    )
    guarded = False
    trains = False

    steps: PositiveInt = 100
    """Of each run."""
    targets: NonNegativeInt = 9
    """The likeliest wrong classes that are targeted, one run each."""

    def tries(self, ball: Ball, classes: int) -> dict[str, Try]:
        return {name: partial(self.perturb, only=i) for i, name in enumerate(self._names(classes))}

    @torch.no_grad()
    def perturb(
        self, model: nn.Module, x: Tensor, y: Tensor, ball: Ball, source: Source, only: int | None = None
    ) -> Tensor:
        """See :meth:`Attack.perturb`; ``only``: one run alone (from 0), instead of all.

        Starts come from ``source``, not from torch's global generator as the library's do, and that is put back.
        """
        x = x.contiguous()  # the library takes views
        worst, logits = x.clone(), model(x)
        ranking = logits.argsort(1, descending=True)
        held = (ranking[:, 0] == y).nonzero().squeeze(1)
        with torch.random.fork_rng(devices=[]):
            for i, attack in enumerate(self._attacks(model, x, ball, logits.shape[1])):
                if len(held) == 0:
                    break
                if only not in (None, i):
                    continue
                attack.y_target = ranking[held, i]  # the first attack has no target
                best, acc, _, fooling = run(attack, x[held], y[held], rng.select(source, held))
                fooled = acc == 0
                if i == 0:
                    worst[held] = best
                worst[held[fooled]] = fooling[fooled]
                held = held[~fooled]
        return worst

    def _attacks(self, model: nn.Module, x: Tensor, ball: Ball, classes: int) -> list[Any]:
        """The untargeted attack, then one object as often as there are targets."""
        from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted

        untargeted, targeted = (prepared(cls, model, x, ball, self.steps) for cls in (APGDAttack, APGDAttack_targeted))
        if classes < 4:
            targeted.loss = "ce-targeted"
        return [untargeted] + [targeted] * (len(self._names(classes)) - 1)

    def _names(self, classes: int) -> list[str]:
        """Of all runs; with two classes the first has tried the only target."""
        targets = min(self.targets, classes - 1) if classes > 2 else 0
        return ["apgd-ce", *(f"apgd-t {number}" for number in range(1, targets + 1))]


def prepared(cls: Any, model: nn.Module, x: Tensor, ball: Ball, steps: int, **settings: Any) -> Any:
    """One of the library's attacks, ready for :func:`run`."""
    attack = cls(model, n_iter=steps, norm=type(ball).__name__, eps=ball.eps, logger=_LOG, **settings)
    attack.init_hyperparam(x)
    return attack


def run(attack: Any, x: Tensor, y: Tensor, source: Source) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One run from a random start: where the loss is greatest, which images hold, losses, what fools the others."""
    if attack.norm == "L1":
        return _shrinking(attack, x, y, x + rng.normal(x, source))
    draw = rng.normal(x, source) if attack.norm == "L2" else 2 * rng.uniform(x, source) - 1
    return attack.attack_single_run(x, y, x_init=x + attack.eps * attack.normalize(draw))


def _shrinking(attack: Any, x: Tensor, y: Tensor, start: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """In L1 balls of falling size (Croce and Hein, ICML 2021), as the library's ``decr_eps_pgd`` with a given start."""
    from pyautoattack.autopgd_base import L1_projection

    early = math.ceil(0.3 * attack.n_iter_orig)
    for factor, steps in ((3.0, early), (2.0, early), (1.0, attack.n_iter_orig - 2 * early)):
        attack.eps, attack.n_iter, attack.use_rs = factor * attack.eps_orig, steps, False
        start = start + L1_projection(x, start - x, attack.eps)
        start, acc, loss, fooling = attack.attack_single_run(x, y, x_init=start)
    return start, acc, loss, fooling
