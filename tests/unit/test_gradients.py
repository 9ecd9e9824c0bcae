"""The gradient with respect to the images, the margin, and the one-step attack worked out by hand."""

from typing import cast

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from hpcfast.attacks import input_gradient, margin, noise
from hpcfast.attacks.balls import L2, Ball, Linf
from hpcfast.attacks.fgsm import Fgsm
from hpcfast.models import ModelSettings
from tests.unit.nets import BALLS, ball_name, convolutional, linear, pictures


def test_the_input_gradient_is_that_of_backward() -> None:
    x, y = pictures()
    model = convolutional().eval()
    leaf = x.clone().requires_grad_()
    F.cross_entropy(model(leaf), y, reduction="sum").backward()
    torch.testing.assert_close(input_gradient(model, x, y), leaf.grad)


def test_the_input_gradient_agrees_with_finite_differences() -> None:
    x, y = (t[:3] for t in pictures())
    model, x = convolutional().eval().double(), x.double()
    gradient = input_gradient(model, x, y).flatten()
    for i in range(x.numel()):
        step = torch.zeros(x.numel(), dtype=torch.float64)
        step[i] = 1e-5
        up, down = (F.cross_entropy(model(x + s * step.view_as(x)), y, reduction="sum").item() for s in (1, -1))
        assert (up - down) / 2e-5 == pytest.approx(gradient[i].item(), rel=1e-5, abs=1e-8), f"pixel {i}"


def test_an_images_gradient_does_not_depend_on_the_others() -> None:
    x, y = pictures()
    model = convolutional().eval()
    whole = input_gradient(model, x, y)
    torch.testing.assert_close(input_gradient(model, x[4:5], y[4:5]), whole[4:5])


def test_the_margin_is_positive_exactly_where_misclassified() -> None:
    logits = torch.randn(500, 7, generator=torch.Generator().manual_seed(0))
    y = torch.arange(500) % 7
    assert torch.equal(margin(logits, y) > 0, logits.argmax(1) != y)


def test_the_margin_is_the_largest_wrong_logit_less_the_true_one() -> None:
    logits = torch.tensor([[3.0, 1.0, 2.0], [3.0, 1.0, 2.0], [0.0, 0.0, -5.0]])
    assert margin(logits, torch.tensor([0, 1, 2])).tolist() == [-1, 2, 5]


@pytest.mark.parametrize("ball", BALLS, ids=ball_name)
@pytest.mark.parametrize("alpha", [None, 0.01])
def test_fgsm_is_one_step_from_the_start_by_hand(ball: Ball, alpha: float | None) -> None:
    """For a linear model the gradient is W^T (softmax - onehot), the rest is the published formula."""
    x, y = pictures()
    model = linear()
    start = ball.start(x, torch.Generator().manual_seed(3))
    layer = model[1]
    assert isinstance(layer, nn.Linear)
    gradient = (model(x + start).softmax(1) - F.one_hot(y, 3)) @ layer.weight
    step = gradient.sign() if isinstance(ball, Linf) else gradient / gradient.norm(dim=1, keepdim=True)
    delta = start.flatten(1) + (1.25 * ball.eps if alpha is None else alpha) * step
    if isinstance(ball, Linf):
        delta = delta.clamp(-ball.eps, ball.eps)
    else:
        delta = delta * (ball.eps / delta.norm(dim=1, keepdim=True)).clamp(max=1)
    expected = (x + delta.view_as(x)).clamp(0, 1).detach()
    x_adv = Fgsm(name="fgsm", alpha=alpha).perturb(model, x, y, ball, torch.Generator().manual_seed(3))
    torch.testing.assert_close(x_adv, expected, rtol=0, atol=1e-6)


def test_an_image_without_gradient_only_gets_its_random_start() -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(18, 3))
    nn.init.zeros_(flat[1].weight)
    x, y = pictures()
    ids = torch.arange(len(x))
    start = L2(0.5).start(x, noise.per_image(0, ids))
    x_adv = Fgsm(name="fgsm").perturb(flat, x, y, L2(0.5), noise.per_image(0, ids))
    torch.testing.assert_close(x_adv, x + start, rtol=0, atol=1e-6)


def test_a_fast_adversarial_step_costs_at_most_1_68_standard_steps() -> None:
    """Forward, input gradient, forward, whole backward: 5 sweeps for 3, if no weight gradient is computed in vain."""
    settings = ModelSettings(name="cifar_resnet18", options={"width": 8}, mean=(0.5,) * 3, std=(0.25,) * 3)
    model, x, y = settings.build(10), torch.rand(4, 3, 32, 32), torch.arange(4)
    through = cast(nn.Module, lambda images: model(images.mul(1)))  # the counter cannot watch a module's leaf input
    with FlopCounterMode(display=False) as standard:
        F.cross_entropy(model(x), y).backward()
    with FlopCounterMode(display=False) as fast:
        x_adv = Fgsm(name="fgsm").perturb(through, x, y, L2(1.0), torch.Generator())
        F.cross_entropy(model(x_adv), y).backward()
    ratio = fast.get_total_flops() / standard.get_total_flops()
    assert 1.6 < ratio <= 1.68, f"a fast adversarial step costs {ratio:.4f} standard steps"
