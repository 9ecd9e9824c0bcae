"""What a network has learnt, as images: gradients that are right, searches that keep their promises."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hpcfast.attacks import input_gradient
from hpcfast.errors import UserError
from hpcfast.explain import features
from hpcfast.models import ModelSettings
from tests.unit import nets


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "STEPS", 40)


def losses(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(model(x), y, reduction="none")


def test_the_slope_of_a_linear_model_is_the_difference_of_two_rows_of_its_weights() -> None:
    model, (x, y) = nets.linear(), nets.pictures()
    rival = model(x).scatter(1, y[:, None], -torch.inf).argmax(1)
    weights = model[1].weight.detach()
    torch.testing.assert_close(features.slope(model, x, y).flatten(1), weights[rival] - weights[y])


def test_the_slope_stays_where_a_sure_model_has_no_gradient_of_the_loss() -> None:
    model, (x, _) = nets.linear(), nets.pictures()
    model[1].weight.data *= 1e4
    y = model(x).argmax(1)
    assert (input_gradient(model, x, y) == 0).flatten(1).all(1).any(), "this model should be surer"
    assert (features.slope(model, x, y).flatten(1).norm(dim=1) > 100).all()


@pytest.mark.parametrize("radius", [0.3, 2.0])
def test_images_pushed_towards_a_class_are_in_the_ball_and_taken_for_it_more_surely(radius: float) -> None:
    model, x, y = nets.trained_digits()
    model.zero_grad()
    target = (y + 3) % 10
    found = features.towards(model, x, target, radius)
    assert ((found - x).flatten(1).norm(dim=1) <= radius + 1e-5).all()
    assert 0 <= found.min() <= found.max() <= 1
    assert (losses(model, found, target) < losses(model, x, target)).all()
    assert (model(found).argmax(1) == target).float().mean() > (0.8 if radius == 2 else 0.0)
    assert not found.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_search_is_repeatable_and_leaves_its_start_alone() -> None:
    model, x, y = nets.trained_digits()
    before = x[:5].clone()
    first, second = (features.towards(model, x[:5], y[:5].roll(1), 1.0) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(x[:5], before)


def half_diagonal(x: Tensor) -> float:
    """From grey to black or white."""
    return math.sqrt(x[0].numel()) / 2


def test_inversion_brings_the_representation_nearer() -> None:
    model, x, _ = nets.trained_digits()
    x = x[:20]
    start = x.roll(-1, 0)
    found = features.inverted(model, x, start, half_diagonal(x))

    def distance(images: Tensor) -> Tensor:
        return (features.representation(model, images) - features.representation(model, x)).norm(dim=1)

    assert (distance(found) < 0.3 * distance(start)).all()
    assert 0 <= found.min() <= found.max() <= 1
    assert not found.requires_grad


def test_a_representation_that_keeps_everything_gives_the_image_back() -> None:
    model, (x, _) = nets.linear(), nets.pictures()
    start = torch.full_like(x, 0.5)
    found = features.inverted(model, x, start, half_diagonal(x))
    assert ((found - x).flatten(1).norm(dim=1) < 0.1 * (start - x).flatten(1).norm(dim=1)).all()


@pytest.mark.parametrize(
    ("name", "size"), [("cifar_resnet8", 12), ("resnet18", 32), ("convnext_atto", 32), ("test_vit", 160)]
)
def test_the_representation_is_what_the_last_layer_makes_the_logits_of(name: str, size: int) -> None:
    torch.manual_seed(0)
    model = ModelSettings(name=name, mean=(0.5,) * 3, std=(0.25,) * 3).build(5).eval()
    x = torch.rand(2, 3, size, size)
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    given = features.representation(model, x)
    assert given.shape == (2, last.in_features)
    torch.testing.assert_close(last(given), model(x))
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_the_hook_goes_when_the_model_fails() -> None:
    model = nets.linear()
    with pytest.raises(RuntimeError):
        features.representation(model, torch.rand(2, 1, 3, 3))
    assert not model[1]._forward_pre_hooks


def test_a_network_without_a_representation_is_refused() -> None:
    with pytest.raises(UserError, match="no linear layer, whose input could be inverted"):
        features.representation(nn.Flatten(), torch.rand(2, 1, 3, 3))
