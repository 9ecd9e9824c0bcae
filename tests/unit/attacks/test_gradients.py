"""The gradient with respect to the images, the margin, and the one-step attack worked out by hand."""

from typing import cast

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from hpcfast.attacks import Attack, gradient, input_gradient, margin, rng
from hpcfast.attacks.fgsm_rs import FgsmRs
from hpcfast.attacks.free import Free
from hpcfast.attacks.nfgsm import Nfgsm
from hpcfast.attacks.norms import L2, Ball, Linf
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


def test_the_scale_of_the_loss_changes_no_bit_in_fp32() -> None:
    x, y = pictures()
    model = convolutional().eval()
    leaf = x.clone().requires_grad_()
    (plain,) = torch.autograd.grad(F.cross_entropy(model(leaf), y, reduction="sum"), leaf)
    assert torch.equal(input_gradient(model, x, y), plain)


class HalfPrecision(nn.Module):
    """Computes in fp16 and returns float32 logits, as training with mixed precision does."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.float16):
            return self.model(x).float()


def test_a_confident_models_gradients_survive_fp16_where_those_of_the_mean_vanish() -> None:
    model, (x, _) = linear(classes=2), pictures(128)
    model[1].bias.data = torch.tensor([14.0, 0.0])  # the other class has a probability of about 1e-6
    y, leaf, half = torch.zeros(128, dtype=torch.int64), x.clone().requires_grad_(), HalfPrecision(model)
    (naive,) = torch.autograd.grad(F.cross_entropy(half(leaf), y), leaf)
    assert (naive == 0).all(), "pick a more confident model: the naive gradient is still there"
    ours, exact = input_gradient(half, x, y), input_gradient(model, x, y)
    cosine = F.cosine_similarity(ours.flatten(1) * 1e6, exact.flatten(1) * 1e6)
    assert (cosine > 0.99).all(), f"cosines to the fp32 gradient: {cosine.tolist()}"


def test_entries_that_overflow_in_fp16_become_zero() -> None:
    model, (x, _) = linear(classes=2), pictures()
    model[1].weight.data[:, 0] = torch.tensor([-300.0, 300.0])  # 1024 * 300 is above fp16's largest number
    gradient = input_gradient(HalfPrecision(model), x, torch.zeros(len(x), dtype=torch.int64)).flatten(1)
    overflows = x.flatten(1)[:, 0] > 0.1  # there the model is sure of the wrong class
    assert overflows.any()
    assert gradient.isfinite().all()
    assert (gradient[overflows, 0] == 0).all()
    assert (gradient[overflows, 1:] != 0).all(), "the other pixels' gradients are lost too"


def test_a_gradient_with_a_graph_reaches_the_weights_and_one_without_does_not() -> None:
    x, y = pictures()
    model = convolutional().eval()
    assert not input_gradient(model, x, y).requires_grad
    input_gradient(model, x, y, create_graph=True).square().sum().backward()
    assert model[0].weight.grad.abs().sum() > 0


def test_the_gradient_of_any_loss_is_taken() -> None:
    x, _ = pictures()
    torch.testing.assert_close(gradient(lambda images: (images**2).sum(), x), 2 * x)


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
    x_adv = FgsmRs(name="fgsm_rs", alpha=alpha).perturb(model, x, y, ball, torch.Generator().manual_seed(3))
    torch.testing.assert_close(x_adv, expected, rtol=0, atol=1e-6)


def test_an_image_without_gradient_only_gets_its_random_start() -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(18, 3))
    nn.init.zeros_(flat[1].weight)
    x, y = pictures()
    ids = torch.arange(len(x))
    start = L2(0.5).start(x, rng.per_image(0, ids))
    x_adv = FgsmRs(name="fgsm_rs").perturb(flat, x, y, L2(0.5), rng.per_image(0, ids))
    torch.testing.assert_close(x_adv, x + start, rtol=0, atol=1e-6)


def test_nfgsm_is_one_step_from_noise_by_hand() -> None:
    x, y = pictures()
    model = linear()
    layer = model[1]
    for ball in BALLS:
        start = (x + 3 * ball.noise(x, torch.Generator().manual_seed(3))).clamp(0, 1)
        gradient = (model(start).softmax(1) - F.one_hot(y, 3)) @ layer.weight
        step = gradient.sign() if isinstance(ball, Linf) else gradient / gradient.norm(dim=1, keepdim=True)
        for alpha in (None, 0.01):
            expected = (start + (alpha or ball.eps) * step.view_as(x)).clamp(0, 1).detach()
            attack = Nfgsm(name="nfgsm", noise=3, alpha=alpha)
            x_adv = attack.perturb(model, x, y, ball, torch.Generator().manual_seed(3))
            torch.testing.assert_close(x_adv, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("ball", BALLS, ids=ball_name)
def test_from_zero_fgsm_is_goodfellows(ball: Ball) -> None:
    x, y = pictures()
    gradient = input_gradient(linear(), x, y)
    step = gradient.sign() if isinstance(ball, Linf) else gradient / gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    x_adv = FgsmRs(name="fgsm_rs", start="zero").perturb(linear(), x, y, ball, torch.Generator())
    torch.testing.assert_close(x_adv, (x + ball.eps * step).clamp(0, 1), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("attack", "low", "high"),
    [
        # Forward, input gradient, forward, whole backward: 5 sweeps for 3, if no weight gradient is computed in vain.
        (FgsmRs(name="fgsm_rs"), 1.6, 1.68),
        (Nfgsm(name="nfgsm"), 1.6, 1.68),
        # A replay is a standard step, and the first layer's gradient.
        (Free(name="free", replays=3), 3, 3.05),
    ],
    ids=lambda value: value.name if isinstance(value, Attack) else "",
)
def test_a_batch_costs_so_many_standard_steps(attack: Attack, low: float, high: float) -> None:
    settings = ModelSettings(name="cifar_resnet18", options={"width": 8}, mean=(0.5,) * 3, std=(0.25,) * 3)
    model, x, y = settings.build(10), torch.rand(4, 3, 32, 32), torch.arange(4)
    through = cast(nn.Module, lambda images: model(images.mul(1)))  # the counter cannot watch a module's leaf input
    with FlopCounterMode(display=False) as standard:
        F.cross_entropy(model(x), y).backward()
    with FlopCounterMode(display=False) as ours:
        for loss in attack.losses(through, x, y, L2(1.0), torch.Generator(), F.cross_entropy):
            loss.backward()
    ratio = ours.get_total_flops() / standard.get_total_flops()
    assert low < ratio <= high, f"a batch costs {ratio:.4f} standard steps"
