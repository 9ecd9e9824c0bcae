"""Foolbox as the oracle: both find as many adversarial images."""

import foolbox
import pytest
import torch

from hpcfast.attacks import rng
from hpcfast.attacks.norms import L2, Ball, Linf
from hpcfast.attacks.pgd import Pgd
from tests.unit.nets import ball_name, trained_digits

STEPS, RESTARTS = 20, 3


@pytest.mark.parametrize(
    ("ball", "oracle"),
    [
        (ball, oracle)
        for oracle, balls in (
            (foolbox.attacks.LinfPGD, [Linf(0.05), Linf(0.1), Linf(0.15)]),
            (foolbox.attacks.L2PGD, [L2(0.3), L2(0.5), L2(0.7)]),
        )
        for ball in balls
    ],
    ids=lambda value: ball_name(value) if isinstance(value, Ball) else value.__name__,
)
def test_pgd_fools_as_many_images_as_foolbox(ball: Ball, oracle: type) -> None:
    model, x, y = trained_digits()
    attack = Pgd(name="pgd", steps=STEPS, restarts=RESTARTS)
    ours = attack.perturb(model, x, y, ball, rng.per_image(0, torch.arange(len(x))))
    held = model(ours).argmax(1) == y
    torch.manual_seed(0)
    theirs = oracle(steps=STEPS, rel_stepsize=2.5 / STEPS).repeat(RESTARTS)
    _, _, success = theirs(foolbox.PyTorchModel(model, bounds=(0, 1)), x, y, epsilons=ball.eps)
    assert 5 < held.sum() < 95, f"eps {ball.eps} decides nothing: {held.sum()} of 100 hold"
    assert abs(int(held.sum()) - int((~success).sum())) <= 2, f"{held.sum()} hold here, {(~success).sum()} with foolbox"
