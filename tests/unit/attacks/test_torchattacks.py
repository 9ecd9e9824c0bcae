"""torchattacks as the oracle: restarted PGD leaves as many images standing."""

import pytest
import torch
import torchattacks

from hpcfast.attacks import rng
from hpcfast.attacks.norms import L2, Ball, Linf
from hpcfast.attacks.pgd import Pgd
from tests.unit.nets import ball_name, trained_digits

STEPS, RESTARTS = 50, 10


@pytest.mark.parametrize("ball", [Linf(0.05), Linf(0.1), Linf(0.15), L2(0.3), L2(0.5), L2(0.7)], ids=ball_name)
def test_as_many_images_hold_as_under_torchattacks(ball: Ball) -> None:
    model, x, y = trained_digits()
    held = torch.arange(len(x))
    for number, attempt in enumerate(Pgd(name="pgd", steps=STEPS, restarts=RESTARTS).tries(ball, 10).values()):
        images = attempt(model, x[held], y[held], ball, rng.per_image(0, held, number))
        held = held[model(images).argmax(1) == y[held]]
    kind = torchattacks.PGDL2 if isinstance(ball, L2) else torchattacks.PGD
    theirs = kind(model, eps=ball.eps, alpha=2.5 * ball.eps / STEPS, steps=STEPS)
    torch.manual_seed(0)
    stood = torch.ones(len(x), dtype=torch.bool)
    for _ in range(RESTARTS):
        stood &= model(theirs(x, y)).argmax(1) == y
    assert 5 < stood.sum() < 95, f"{ball_name(ball)} decides nothing: {stood.sum()} of 100 hold"
    assert -3 <= len(held) - int(stood.sum()) <= 1, f"{len(held)} hold here, {stood.sum()} under torchattacks"
