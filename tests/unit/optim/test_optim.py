"""Optimizers: timm's, with the linear scaling rule."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import nn

from hpcfast.component import Invalid, validate
from hpcfast.optim import NAMES, OptimSettings


def settings(**changes: object) -> OptimSettings:
    return validate(OptimSettings, {"lr": 0.1, "lr_batch": 128, **changes})


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 2))


@given(st.floats(1e-6, 10), st.integers(1, 10**4), st.integers(1, 10**5))
def test_the_learning_rate_is_in_proportion_to_the_batch(lr: float, lr_batch: int, batch: int) -> None:
    scaled = settings(lr=lr, lr_batch=lr_batch)
    assert scaled.scaled_lr(lr_batch) == pytest.approx(lr)
    assert scaled.scaled_lr(batch) == pytest.approx(batch * scaled.scaled_lr(1))


@given(st.floats(1e-6, 10), st.integers(1, 10**4), st.integers(1, 10**5))
def test_by_the_square_root_rule_twice_the_rate_takes_four_times_the_batch(lr: float, base: int, batch: int) -> None:
    scaled = settings(lr=lr, lr_batch=base, lr_rule="sqrt")
    assert scaled.scaled_lr(base) == pytest.approx(lr)
    assert scaled.scaled_lr(4 * batch) == pytest.approx(2 * scaled.scaled_lr(batch))


def test_without_a_rule_the_batch_changes_nothing() -> None:
    assert {settings(lr_rule="none").scaled_lr(batch) for batch in (1, 128, 10**5)} == {0.1}


@pytest.mark.parametrize(("rule", "expected"), [("linear", 0.6), ("sqrt", 0.3 * 2**0.5), ("none", 0.3)])
def test_a_phases_own_rate_is_scaled_like_the_settings(rule: str, expected: float) -> None:
    assert settings(lr_rule=rule).scaled_lr(256, 0.3) == pytest.approx(expected)
    assert settings(lr_rule=rule).scaled_lr(256, None) == settings(lr_rule=rule).scaled_lr(256)


@pytest.mark.parametrize("name", ["sgd", "adamw", "lamb", "lars", "lion"])
def test_biases_and_batchnorm_get_no_weight_decay(name: str) -> None:
    model = network()
    optimizer = settings(name=name, weight_decay=0.01).build(model)
    decay = {p: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert {key: decay[p] for key, p in model.named_parameters()} == {
        "0.weight": 0.01, "0.bias": 0, "1.weight": 0, "1.bias": 0, "3.weight": 0.01, "3.bias": 0,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["sgd", "momentum", "adam", "adamw", "lamb", "lars", "lion", "rmsprop", "nadamw"])
def test_each_optimizer_lowers_a_loss(name: str) -> None:
    model, x, y = network(), torch.randn(16, 1, 4, 4), torch.arange(16) % 2
    optimizer = settings(name=name, lr=0.01).build(model)
    losses = []
    for _ in range(30):
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0], f"{name}: {losses[0]} became {losses[-1]}"


def test_sgd_is_nesterovs_with_decay_in_the_gradient() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.ones_(model.weight)
    optimizer = settings(lr=0.1, momentum=0.5, weight_decay=0.2).build(model)
    weight, velocity = 1.0, 0.0
    for _ in range(3):
        model.weight.grad = torch.ones(1, 1)
        optimizer.step()
        gradient = 1 + 0.2 * weight
        velocity = 0.5 * velocity + gradient
        weight -= 0.1 * (gradient + 0.5 * velocity)
        assert model.weight.item() == pytest.approx(weight)


def test_an_unknown_name_gets_a_suggestion() -> None:
    with pytest.raises(Invalid, match=r"name: 'adamww' is not one of: .*did you mean 'adamw'"):
        settings(name="adamww")


@pytest.mark.parametrize("wrong", [{"lr": 0}, {"lr_batch": 0}, {"momentum": -0.1}, {"weight_decay": -1}])
def test_wrong_numbers_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(Invalid, match=rf"{next(iter(wrong))}: .*greater than"):
        settings(**wrong)


@pytest.mark.parametrize("name", NAMES)
def test_each_name_that_is_accepted_can_be_built(name: str) -> None:
    assert settings(name=name).build(network()).param_groups


@pytest.mark.parametrize("name", ["fusedsgd", "bnbadam8bit"])
def test_what_needs_another_package_is_unknown(name: str) -> None:
    with pytest.raises(Invalid, match=rf"name: '{name}' is not one of: "):
        settings(name=name)
