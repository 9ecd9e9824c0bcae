"""Projected gradient descent: steps, restarts and worst cases."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hpcfast.attacks import margin, rng
from hpcfast.attacks.norms import L2, Ball, Linf
from hpcfast.attacks.pgd import Pgd
from tests.unit.nets import assert_adversarial, ball_name, linear, pictures, trained_digits

BALLS = [Linf(0.1), L2(0.7)]
in_both_balls = pytest.mark.parametrize("ball", BALLS, ids=ball_name)


def margins(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        return margin(model(x), y)


def loss(model: nn.Module, x: Tensor, y: Tensor) -> float:
    with torch.no_grad():
        return float(F.cross_entropy(model(x), y))


@in_both_balls
def test_more_steps_find_a_greater_loss(ball: Ball) -> None:
    model, x, y = trained_digits()
    losses = [loss(model, x, y)]
    for steps in (1, 3, 20):
        x_adv = Pgd(name="pgd", steps=steps).perturb(model, x, y, ball, rng.per_image(0, torch.arange(len(x))))
        assert_adversarial(ball, x, x_adv)
        losses.append(loss(model, x_adv, y))
    assert losses == sorted(losses), f"losses with 0, 1, 3, 20 steps: {losses}"


@in_both_balls
def test_the_worst_case_of_a_linear_binary_model_is_found(ball: Ball) -> None:
    """The worst loss of a linear model in a ball without the pixel box is known: the dual norm of the weights."""
    model = linear(classes=2)
    x, y = torch.full((4, 2, 3, 3), 0.5), torch.tensor([0, 1, 0, 1])
    x_adv = Pgd(name="pgd", steps=20, alpha=ball.eps).perturb(model, x, y, ball, torch.Generator().manual_seed(0))
    towards = (model[1].weight[1] - model[1].weight[0]).detach()
    dual = towards.norm(2) if isinstance(ball, L2) else towards.norm(1)
    gained = margins(model, x_adv, y) - margins(model, x, y)
    torch.testing.assert_close(gained, ball.eps * dual.expand(4), rtol=1e-4, atol=0)


@in_both_balls
def test_restarts_are_at_least_as_bad_as_each_single_run(ball: Ball) -> None:
    model, x, y = trained_digits()

    def sources() -> list[torch.Generator]:
        return rng.per_image(7, torch.arange(len(x)))

    worst = margins(model, Pgd(name="pgd", steps=2, restarts=4).perturb(model, x, y, ball, sources()), y)
    shared, single = sources(), Pgd(name="pgd", steps=2)
    singles = torch.stack([margins(model, single.perturb(model, x, y, ball, shared), y) for _ in range(4)])
    # A restarted image stops once it is fooled; until then the runs draw the same numbers.
    fooled = worst > 0
    assert torch.equal(fooled, (singles > 0).any(0)), "restarts fool other images than the single runs"
    torch.testing.assert_close(worst[~fooled], singles.amax(0)[~fooled])
    assert 0 < fooled.sum() < len(x), "pick an eps at which some images hold and some don't"


@in_both_balls
def test_a_restart_changes_no_image_that_is_fooled_already(ball: Ball) -> None:
    model, x, y = trained_digits()
    ids = torch.arange(len(x))
    one, five = (Pgd(name="pgd", steps=2, restarts=n).perturb(model, x, y, ball, rng.per_image(0, ids)) for n in (1, 5))
    fooled = margins(model, one, y) > 0
    assert fooled.any()
    assert torch.equal(five[fooled], one[fooled])


@in_both_balls
def test_a_restart_attacks_only_images_not_yet_fooled(ball: Ball) -> None:
    model, x, y = trained_digits()
    seen: list[int] = []
    hook = model.register_forward_hook(lambda _module, inputs, _output: seen.append(len(inputs[0])))
    try:
        first = Pgd(name="pgd", steps=2).perturb(model, x, y, ball, torch.Generator().manual_seed(0))
        left = int((margins(model, first, y) <= 0).sum())
        seen.clear()
        Pgd(name="pgd", steps=2, restarts=2).perturb(model, x, y, ball, torch.Generator().manual_seed(0))
    finally:
        hook.remove()
    n = len(x)
    assert seen == [n, n, n, left, left, left], "two steps and a look at all, then the same for those that held"


def test_restarts_end_when_all_images_are_fooled() -> None:
    model, x, y = trained_digits()
    seen: list[int] = []
    hook = model.register_forward_hook(lambda _module, inputs, _output: seen.append(len(inputs[0])))
    try:
        Pgd(name="pgd", steps=5, restarts=50).perturb(model, x, y, L2(20.0), torch.Generator().manual_seed(0))
    finally:
        hook.remove()
    assert sum(seen) < 20 * len(x)


def test_settings_that_make_no_attack_are_refused() -> None:
    for wrong in ({"steps": 0}, {"restarts": 0}, {"alpha": -1}, {"alpha": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Pgd(name="pgd", **wrong)


def test_the_step_size_is_2_5_eps_over_steps_unless_given() -> None:
    x, y = pictures()
    images = [
        Pgd(name="pgd", steps=5, alpha=alpha).perturb(linear(), x, y, L2(0.4), torch.Generator().manual_seed(0))
        for alpha in (None, 2.5 * 0.4 / 5, 0.4)
    ]
    assert torch.equal(images[0], images[1])
    assert not torch.equal(images[0], images[2])
