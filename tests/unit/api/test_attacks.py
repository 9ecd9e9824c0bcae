"""Attacks as objects: what other libraries' do, what the commands do, and a clear word where that makes no sense."""

import json
from collections.abc import Callable

import foolbox
import pytest
import torch
import torchattacks
from torch import Tensor, nn

import hpcfast
from hpcfast.api.attacks import Attack
from hpcfast.attacks.norms import L1, L2, Ball, Linf
from tests.unit.nets import assert_adversarial, ball_name, convolutional, pictures, trained_digits

ATTACKS: dict[str, Callable[..., Attack]] = {
    "PGD": hpcfast.PGD,
    "FGSM": hpcfast.FGSM,
    "NFGSM": hpcfast.NFGSM,
    "APGD": lambda model, **given: hpcfast.APGD(model, steps=5, targets=2, **given),
    "AutoAttack": hpcfast.AutoAttack,
    "Square": lambda model, **given: hpcfast.Square(model, queries=50, **given),
}


@pytest.mark.parametrize("norm", ["Linf", "L2", "L1"])
@pytest.mark.parametrize("name", [name for name in ATTACKS if name != "AutoAttack"])
def test_images_come_back_in_the_ball_and_weights_get_no_gradients(name: str, norm: str) -> None:
    model, x, y = trained_digits() if name == "Square" else (convolutional().eval(), *pictures())
    eps = {"Linf": 0.1, "L2": 0.5, "L1": 2.0}[norm]
    before = x.clone()
    model.zero_grad()
    x_adv = ATTACKS[name](model, eps=eps, norm=norm, seed=0)(x, y)
    if name != "NFGSM":
        ball = {"Linf": Linf, "L2": L2, "L1": L1}[norm](eps)
        assert_adversarial(ball, x, x_adv)
    assert torch.equal(x, before)
    assert (x_adv != x).any()
    assert all(weights.grad is None for weights in model.parameters())
    assert not model.training


BALLS = [Linf(0.05), Linf(0.1), L2(0.3), L2(0.5)]


@pytest.mark.parametrize("ball", BALLS, ids=ball_name)
def test_pgd_leaves_as_many_images_as_torchattacks_and_foolbox(ball: Ball) -> None:
    model, x, y = trained_digits()
    euclidean = isinstance(ball, L2)
    ours = hpcfast.PGD(model, ball.eps, 50, restarts=3, norm="L2" if euclidean else "Linf", seed=0)
    held = int((model(ours(x, y)).argmax(1) == y).sum())
    torch.manual_seed(0)
    kind = torchattacks.PGDL2 if euclidean else torchattacks.PGD
    theirs = kind(model, eps=ball.eps, alpha=2.5 * ball.eps / 50, steps=50)
    stood = torch.ones(len(x), dtype=torch.bool)
    for _ in range(3):
        stood &= model(theirs(x, y)).argmax(1) == y
    oracle = foolbox.attacks.L2PGD if euclidean else foolbox.attacks.LinfPGD
    foolboxes = oracle(steps=50, rel_stepsize=2.5 / 50).repeat(3)
    _, _, success = foolboxes(foolbox.PyTorchModel(model, bounds=(0, 1)), x, y, epsilons=ball.eps)
    assert 5 < held < 95, f"eps {ball.eps} decides nothing"
    assert abs(held - int(stood.sum())) <= 3
    assert abs(held - int((~success).sum())) <= 2


def test_a_seed_and_an_images_number_fix_its_random_numbers() -> None:
    model, x, y = trained_digits()
    attack = hpcfast.PGD(model, 0.1, 3, seed=5)
    whole = attack(x, y)
    parts = [attack(x[rows], y[rows], rows) for rows in torch.arange(len(x)).split(33)]
    assert torch.equal(torch.cat(parts), whole)
    assert not torch.equal(hpcfast.PGD(model, 0.1, 3, seed=6)(x, y), whole)


def test_without_a_seed_torchs_own_fixes_them() -> None:
    model, x, y = trained_digits()
    attack, found = hpcfast.PGD(model, 0.1, 3), []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        found.append(attack(x, y))
    torch.manual_seed(1)
    twice = [attack(x, y) for _ in range(2)]
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    assert not torch.equal(*twice), "each call draws anew"


def test_stopping_early_leaves_what_is_misclassified() -> None:
    model, x, y = trained_digits()
    wrong = (y + 1) % 10
    assert torch.equal(hpcfast.PGD(model, 0.1, stop_early=True)(x, wrong), x)
    assert not torch.equal(hpcfast.PGD(model, 0.1)(x, wrong), x)


def test_within_training_a_model_in_train_mode_may_be_attacked() -> None:
    model, (x, y) = convolutional(), pictures()
    assert hpcfast.PGD(model, train_mode=True)(x, y).shape == x.shape
    assert model.training


class NotFinite(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.full((len(x), 3), torch.nan)


class NoLogits(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda model, x, y: (model.train(), x, y), r"in train mode.*call model\.eval\(\)"),
        (lambda model, x, y: (NotFinite().eval(), x, y), "logits that are not finite for 12 of 12 images"),
        (lambda model, x, y: (NoLogits().eval(), x, y), r"returns float32 of shape \(\).*\(12, classes\)"),
        (lambda model, x, y: (model, x * 2 - 1, y), r"pixels from -1 to 1; give pixels in \[0,1\]"),
        (lambda model, x, y: (model, x * torch.nan, y), "pixels from nan to nan"),
        (lambda model, x, y: (model, (255 * x).byte(), y), r"x is uint8 .*x\.float\(\) / 255"),
        (lambda model, x, y: (model, x[0], y), r"x is float32 of shape \(2, 3, 3\)"),
        (lambda model, x, y: (model, x, y + 1), "classes from 1 to 3; legal are 0 to 2"),
        (lambda model, x, y: (model, x, y - 1), "classes from -1 to 1; legal are 0 to 2"),
        (lambda model, x, y: (model, x, y[1:]), r"y is int64 of shape \(11,\) for 12 images"),
        (lambda model, x, y: (model, x, y.float()), "y is float32"),
        (lambda model, x, y: (model.to("meta"), x, y), "x is on cpu, the model on meta"),
    ],
)
def test_what_makes_no_sense_is_refused(change: Callable[..., tuple[nn.Module, Tensor, Tensor]], message: str) -> None:
    model, x, y = change(convolutional().eval(), *pictures())
    with pytest.raises(hpcfast.UserError, match=message):
        hpcfast.PGD(model)(x, y)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"steps": 0}, "steps: input should be greater than 0"),
        ({"eps": -1}, "eps"),
        ({"norm": "L3"}, "norm: input should be 'Linf', 'L2' or 'L1'"),
    ],
)
def test_wrong_settings_are_refused_at_once(given: dict[str, object], message: str) -> None:
    with pytest.raises(hpcfast.UserError, match=message):
        hpcfast.PGD(convolutional(), **given)


def test_no_images_are_no_error() -> None:
    x, y = pictures()
    assert hpcfast.PGD(convolutional().eval())(x[:0], y[:0]).shape == (0, 2, 3, 3)


def test_settings_that_can_be_seen() -> None:
    assert repr(hpcfast.PGD(convolutional(), 0.5, norm="L2")) == (
        "PGD(norm=L2, eps=0.5, steps=10, alpha=None, restarts=1)"
    )
    json.dumps(hpcfast.APGD(convolutional()).attack.model_dump())
