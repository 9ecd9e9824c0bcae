"""AutoAttack (Croce and Hein, ICML 2020), the yardstick of robust accuracy, to measure with.

The attacks and their settings are those of the authors' own code (PyPI: pyautoattack). What is ours: each attack, and
each target of it, is a try of its own, so that an evaluation can deal out the images that are left after it, and go
on where it was stopped.
"""

from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from hpcfast.attacks import Attack, Ball, Source, Try, in_turn, rng
from hpcfast.attacks.apgd import Apgd, prepared, run
from hpcfast.attacks.norms import L1
from hpcfast.attacks.square import Square

STEPS, TARGETS, QUERIES, SAMPLES = 100, 9, 5000, 20


class Autoattack(Attack):
    """AutoAttack, by the authors' code."""

    plainly = "Four strong attacks in a row (APGD, targeted APGD, targeted FAB, Square): the yardstick of the field."
    guarded = False
    trains = False

    version: Literal["standard", "rand"] = "standard"
    """``standard``: APGD-CE, targeted APGD, targeted FAB, Square. ``rand``: for models that draw random numbers."""

    def tries(self, ball: Ball, classes: int) -> dict[str, Try]:
        if self.version == "rand":
            return {f"apgd-{loss}": partial(_averaged, loss=loss) for loss in ("ce", "dlr")}
        sparse = isinstance(ball, L1)  # there AutoAttack starts the first attack five times, and has fewer targets
        apgd = Apgd(name="apgd", steps=STEPS, targets=5 if sparse else TARGETS).tries(ball, classes)
        first = apgd.pop("apgd-ce")
        starts = {f"apgd-ce {number}": first for number in range(1, 6)} if sparse else {"apgd-ce": first}
        fab = {f"fab-t {number}": partial(_fab, target=number) for number in range(1, min(TARGETS, classes - 1) + 1)}
        return starts | apgd | fab | {"square": Square(name="square", queries=QUERIES).perturb}

    @torch.no_grad()
    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, ball: Ball, source: Source) -> Tensor:
        tries = self.tries(ball, model(x).shape[1]).values()
        return in_turn(tries, model, x, y, ball, lambda number, rows: rng.select(source, rows))


@torch.no_grad()
def _averaged(model: nn.Module, x: Tensor, y: Tensor, ball: Ball, source: Source, loss: str) -> Tensor:
    """One run of APGD along the mean of many gradients, for models that draw random numbers."""
    from pyautoattack.autopgd_base import APGDAttack

    x = x.contiguous()
    attack = prepared(APGDAttack, model, x, ball, STEPS, loss=loss, eot_iter=SAMPLES)
    first = source if isinstance(source, torch.Generator) else source[0]
    seed = int(torch.randint(2**62, (), generator=first, device=first.device))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # of the model's own numbers
        best, acc, _, fooling = run(attack, x, y, source)
    return torch.where((acc == 0).view(-1, 1, 1, 1), fooling, best)


def _fab(model: nn.Module, x: Tensor, y: Tensor, ball: Ball, source: Source, target: int) -> Tensor:
    """Targeted FAB towards the ``target``-th likeliest wrong class: it draws no random numbers.

    It looks for the nearest adversarial image, wherever that is: one outside the ball is none.
    """
    from pyautoattack.fab_pt import FABAttack_PT

    attack = FABAttack_PT(model, norm=type(ball).__name__, n_iter=STEPS, eps=ball.eps, targeted=True)
    attack.target_class = target + 1  # the library counts the likeliest class, the true one, too
    found = attack.attack_single_run(x.contiguous(), y, is_targeted=True)
    inside = ball.length(found - x) <= ball.eps
    return torch.where(inside.view(-1, 1, 1, 1), found, x)
