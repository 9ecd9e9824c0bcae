"""Promises that every attack keeps, in every ball."""

import copy

import hypothesis.extra.numpy
import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn

from hpcfast import component
from hpcfast.attacks import Attack, rng
from hpcfast.attacks.norms import L1, L2, Ball, Linf
from tests.unit.nets import BALLS, assert_adversarial, ball_name, convolutional, linear, pictures

PACKAGE = "hpcfast.attacks"


def make(name: str, **settings: object) -> Attack:
    attack = component.validate(component.find(PACKAGE, name), {"name": name, **settings})
    assert isinstance(attack, Attack)
    return attack


SLOW = ("autoattack", "square")  # to measure with; test_autoattack.py has their promises
SETTINGS: dict[str, dict[str, object]] = {
    "apgd": {"steps": 5},
    "mixed": {
        "threats": [{"norm": "Linf", "eps": 8 / 255}, {"norm": "L2", "eps": 0.5}, {"norm": "L2", "eps": 0.1}],
        "attack": {"name": "fgsm_rs"},
    },
}
"""Settings without a default, and fewer steps where the defaults are for measuring."""

ATTACKS = [
    *[make(name, **SETTINGS.get(name, {})) for name in component.names(PACKAGE) if name not in SLOW],
    make("pgd", steps=3, restarts=3),
    make("fgsm_rs", start="zero"),
]
IN_BALL = [attack for attack in ATTACKS if attack.in_ball]
MOVING = [attack for attack in ATTACKS if attack.name != "standard"]
RANDOM = [attack for attack in MOVING if attack.name != "gradalign" and getattr(attack, "start", "") != "zero"]
# TRADES climbs a divergence that knows no true class; APGD leaves alone what is misclassified as it is.
CLIMBING = [attack for attack in MOVING if attack.name not in ("trades", "apgd")]
in_all_balls = pytest.mark.parametrize("ball", [*BALLS, L1(2.0)], ids=ball_name)
all_attacks = pytest.mark.parametrize("attack", ATTACKS, ids=str)
moving_attacks = pytest.mark.parametrize("attack", MOVING, ids=str)
random_attacks = pytest.mark.parametrize("attack", RANDOM, ids=str)
corners = hypothesis.extra.numpy.arrays(
    "float32", (3, 2, 3, 3), elements=st.sampled_from([0, 0.5, 1]) | st.floats(0, 1, width=32)
)


def run(attack: Attack, ball: Ball, seed: int = 0, model: nn.Module | None = None) -> Tensor:
    x, y = pictures()
    return attack.perturb(model or linear(), x, y, ball, torch.Generator().manual_seed(seed))


def test_the_attacks_are_those_that_configs_name() -> None:
    assert {attack.name for attack in ATTACKS} >= {
        "standard",
        "fgsm_rs",
        "nfgsm",
        "pgd",
        "gradalign",
        "free",
        "trades",
        "mixed",
        "apgd",
    }


def test_settings_by_default_are_the_published_ones() -> None:
    """Madry et al., Croce and Hein, Andriushchenko et al. (twice), de Jorge et al., Shafahi et al., Zhang et al."""
    expected: dict[str, dict[str, object]] = {
        "pgd": {"steps": 7, "alpha": None, "restarts": 1},
        "apgd": {"steps": 100, "targets": 9},
        "square": {"queries": 5000},
        "gradalign": {"weight": 0.2},
        "nfgsm": {"noise": 2.0, "alpha": None},
        "free": {"replays": 4, "alpha": None},
        "trades": {"steps": 10, "alpha": None, "beta": 6.0},
        "fgsm_rs": {"start": "random", "alpha": None},
        "autoattack": {"version": "standard"},
    }
    for name, values in expected.items():
        assert make(name).model_dump() == {"name": name, **values}


def test_those_that_leave_the_ball_or_need_no_guard_say_so() -> None:
    assert {attack.name for attack in ATTACKS if not attack.in_ball} == {"nfgsm", "mixed"}
    assert {attack.name for attack in ATTACKS if not attack.guarded} == {"standard", "apgd"}


@in_all_balls
@pytest.mark.parametrize("attack", IN_BALL, ids=str)
@pytest.mark.parametrize("seed", range(5))
def test_images_are_in_the_ball_and_the_box(attack: Attack, ball: Ball, seed: int) -> None:
    x, y = pictures(40, seed)
    x_adv = attack.perturb(linear(seed=seed), x, y, ball, torch.Generator().manual_seed(seed))
    assert_adversarial(ball, x, x_adv)


@pytest.mark.parametrize("kind", [Linf, L2])
@pytest.mark.parametrize("attack", IN_BALL, ids=str)
@settings(max_examples=15)
@given(x=corners.map(torch.from_numpy), eps=st.sampled_from([1 / 255, 0.1, 3.0]), seed=st.integers(0, 2**32))
def test_any_images_stay_in_any_ball_and_the_box(
    attack: Attack, kind: type[Ball], x: Tensor, eps: float, seed: int
) -> None:
    y = torch.tensor([0, 1, 2])
    x_adv = attack.perturb(linear(), x, y, kind(eps), torch.Generator().manual_seed(seed))
    assert_adversarial(kind(eps), x, x_adv)


@in_all_balls
@all_attacks
@pytest.mark.parametrize("seed", range(3))
def test_pixels_are_legal_even_where_the_ball_is_left(attack: Attack, ball: Ball, seed: int) -> None:
    x_adv = run(attack, ball, seed)
    assert x_adv.min() >= 0
    assert x_adv.max() <= 1
    assert not x_adv.requires_grad


@in_all_balls
@all_attacks
@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_given_back_as_it_was(attack: Attack, ball: Ball, training: bool) -> None:
    model = convolutional().train(training)
    weights = copy.deepcopy(dict(model.named_parameters()))
    run(attack, ball, model=model)
    assert all(module.training is training for module in model.modules())
    for name, parameter in model.named_parameters():
        assert parameter.grad is None, f"{name}.grad was left behind"
        assert parameter.requires_grad, f"{name} no longer takes gradients"
        assert torch.equal(parameter, weights[name]), f"{name} was changed"


@in_all_balls
@all_attacks
def test_the_images_given_are_not_changed(attack: Attack, ball: Ball) -> None:
    x, y = pictures()
    before, generator = x.clone(), torch.Generator().manual_seed(0)
    attack.perturb(linear(), x, y, ball, generator)
    assert torch.equal(x, before)
    assert not x.requires_grad
    assert x.grad is None


@in_all_balls
@random_attacks
def test_the_same_seed_gives_the_same_images_and_another_seed_others(attack: Attack, ball: Ball) -> None:
    first = run(attack, ball, seed=1)
    assert torch.equal(first, run(attack, ball, seed=1))
    assert not torch.equal(first, run(attack, ball, seed=2))


@in_all_balls
@all_attacks
def test_torchs_global_random_state_is_neither_used_nor_moved(attack: Attack, ball: Ball) -> None:
    model = linear()
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = run(attack, ball, model=model)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(6)
    assert torch.equal(run(attack, ball, model=model), first)


@in_all_balls
@all_attacks
def test_with_a_generator_an_image_the_batch_does_not_matter(attack: Attack, ball: Ball) -> None:
    x, y = pictures()
    model, ids = linear(), torch.arange(len(x))
    # So near the clean image TRADES climbs small differences of probabilities, in which rounding counts.
    tolerance = 1e-4 if attack.name == "trades" else 1e-6
    whole = attack.perturb(model, x, y, ball, rng.per_image(0, ids))
    for rows in ids.split(5):
        part = attack.perturb(model, x[rows], y[rows], ball, rng.per_image(0, rows))
        torch.testing.assert_close(part, whole[rows], rtol=0, atol=tolerance)


@in_all_balls
@moving_attacks
def test_it_works_under_no_grad(attack: Attack, ball: Ball) -> None:
    expected = run(attack, ball)
    with torch.no_grad():
        assert torch.equal(run(attack, ball), expected)
        assert not torch.is_grad_enabled()


@in_all_balls
@moving_attacks
def test_frozen_weights_are_no_hindrance(attack: Attack, ball: Ball) -> None:
    assert torch.equal(run(attack, ball, model=linear().requires_grad_(False)), run(attack, ball))


@in_all_balls
@pytest.mark.parametrize("attack", CLIMBING, ids=str)
def test_the_loss_of_a_linear_model_rises_for_every_image(attack: Attack, ball: Ball) -> None:
    x, y = pictures(40)
    model = linear()
    x_adv = attack.perturb(model, x, y, ball, torch.Generator().manual_seed(0))
    before, after = (nn.functional.cross_entropy(model(images), y, reduction="none") for images in (x, x_adv))
    # In the L1 ball a step changes one pixel of these; where the start went downhill, that may not make up for it.
    random = attack.name in ("fgsm_rs", "free", "nfgsm") and getattr(attack, "start", "") != "zero"
    least = 0.7 if random and isinstance(ball, L1) else 0.999
    assert (after > before).double().mean() > least, f"rises of {(after - before).tolist()}"


def test_standard_leaves_images_as_they_are() -> None:
    x, _ = pictures()
    assert torch.equal(run(make("standard"), BALLS[0]), x)
