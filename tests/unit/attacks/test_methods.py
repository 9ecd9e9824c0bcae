"""Training methods: what each of them minimises."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hpcfast import component
from hpcfast.attacks import Attack, input_gradient
from hpcfast.attacks.fgsm_rs import FgsmRs
from hpcfast.attacks.free import Free
from hpcfast.attacks.gradalign import Gradalign, misalignment
from hpcfast.attacks.mixed import Mixed
from hpcfast.attacks.nfgsm import Nfgsm
from hpcfast.attacks.norms import L2, Ball, Linf
from hpcfast.attacks.trades import Trades
from tests.unit.nets import BALLS, assert_adversarial, ball_name, convolutional, linear, pictures

in_all_balls = pytest.mark.parametrize("ball", BALLS, ids=ball_name)
THREATS = [{"norm": "Linf", "eps": 8 / 255}, {"norm": "L2", "eps": 0.5}]
INNER = [
    {"name": "fgsm_rs"},
    {"name": "nfgsm"},
    {"name": "pgd", "steps": 2},
    {"name": "gradalign"},
    {"name": "free"},
    {"name": "trades"},
]


def mixed(**inner: object) -> Attack:
    return component.validate(Mixed, {"name": "mixed", "threats": THREATS, "attack": inner})


METHODS = [
    *[component.validate(component.find("hpcfast.attacks", str(inner["name"])), inner) for inner in INNER],
    component.validate(component.find("hpcfast.attacks", "standard"), {"name": "standard"}),
    *[mixed(**inner) for inner in INNER],
]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def lengths(ball: Ball, delta: Tensor) -> Tensor:
    return delta.flatten(1).norm(2.0 if isinstance(ball, L2) else float("inf"), dim=1)


@contextmanager
def inputs_of(model: nn.Module) -> Iterator[list[Tensor]]:
    """What the model is given in this block."""
    seen: list[Tensor] = []
    hook = model.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0].detach().clone()))
    try:
        yield seen
    finally:
        hook.remove()


@in_all_balls
@pytest.mark.parametrize("method", METHODS, ids=str)
def test_every_loss_is_finite_and_reaches_every_weight(method: Attack, ball: Ball) -> None:
    x, y = pictures()
    model, count = convolutional(), 0
    for loss in method.losses(model, x, y, ball, generator(), F.cross_entropy):
        assert all(parameter.grad is None for parameter in model.parameters()), "a gradient before the backward"
        assert loss.shape == ()
        assert loss.isfinite()
        loss.backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, f"{name} has no gradient"
            assert parameter.grad.isfinite().all(), f"{name}'s gradient is not finite"
            parameter.grad = None
        count += 1
    assert count == method.updates


@in_all_balls
@pytest.mark.parametrize("name", ["fgsm_rs", "nfgsm", "pgd"])
def test_most_methods_minimise_the_loss_of_attacked_images(name: str, ball: Ball) -> None:
    x, y = pictures()
    method = component.validate(component.find("hpcfast.attacks", name), {"name": name})

    def smoothed(logits: Tensor, classes: Tensor) -> Tensor:
        return F.cross_entropy(logits, classes, label_smoothing=0.1)

    (loss,) = method.losses(linear(), x, y, ball, generator(), smoothed)
    assert torch.equal(loss, smoothed(linear()(method.perturb(linear(), x, y, ball, generator())), y))


@in_all_balls
def test_nfgsm_starts_outside_the_ball_and_ends_at_most_one_step_further(ball: Ball) -> None:
    x, y = torch.full((40, 2, 3, 3), 0.5), torch.arange(40) % 3
    model = linear()
    with inputs_of(model) as seen:
        x_adv = Nfgsm(name="nfgsm", noise=2).perturb(model, x, y, ball, generator())
    start, step = lengths(ball, seen[0] - x), lengths(ball, x_adv - seen[0])
    assert (start > ball.eps).float().mean() > 0.9
    assert start.mean().item() == pytest.approx(2 * ball.eps, rel=0.2)
    assert (step <= ball.eps + 1e-6).all()
    assert (lengths(ball, x_adv - x) > ball.eps).any()


@in_all_balls
def test_trades_minimises_the_published_loss(ball: Ball) -> None:
    x, y = pictures()
    model, method = convolutional().eval(), Trades(name="trades", steps=3, beta=4)
    (loss,) = method.losses(model, x, y, ball, generator(), F.cross_entropy)
    x_adv = method.perturb(model, x, y, ball, generator())
    p, q = model(x).softmax(1), model(x_adv).softmax(1)
    expected = F.cross_entropy(model(x), y) + 4 * (p * (p / q).log()).sum(1).mean()
    torch.testing.assert_close(loss, expected)
    loss.backward()
    ours = [parameter.grad.clone() for parameter in model.parameters()]
    torch.testing.assert_close(ours, list(torch.autograd.grad(expected, list(model.parameters()))))


@in_all_balls
def test_trades_climbs_the_divergence_whatever_the_classes(ball: Ball) -> None:
    x, y = pictures()
    model = convolutional().eval()
    clean = model(x).log_softmax(1)

    def divergence(images: Tensor) -> Tensor:
        return (clean.exp() * (clean - model(images).log_softmax(1))).sum(1)

    one, ten = (Trades(name="trades", steps=n).perturb(model, x, y, ball, generator()) for n in (1, 10))
    assert_adversarial(ball, x, ten)
    assert divergence(ten).sum() > divergence(x + ball.start(x, generator())).sum() > 0
    assert divergence(ten).sum() >= 0.99 * divergence(one).sum()
    assert torch.equal(ten, Trades(name="trades").perturb(model, x, (y + 1) % 3, ball, generator()))


@in_all_balls
def test_gradalign_minimises_the_published_loss(ball: Ball) -> None:
    """The gradient at x is detached, as in the authors' code; the weights learn through the other."""
    x, y = pictures()
    model, method = convolutional().eval(), Gradalign(name="gradalign", weight=0.7)
    (loss,) = method.losses(model, x, y, ball, generator(), F.cross_entropy)
    here, there = x.clone().requires_grad_(), (x + ball.random(x, generator())).requires_grad_()
    (g_here,) = torch.autograd.grad(F.cross_entropy(model(here), y), here)
    (g_there,) = torch.autograd.grad(F.cross_entropy(model(there), y), there, create_graph=True)
    cosine = F.cosine_similarity(g_here.flatten(1), g_there.flatten(1))
    attacked = method.perturb(model, x, y, ball, generator())
    expected = F.cross_entropy(model(attacked), y) + 0.7 * (1 - cosine.mean())
    torch.testing.assert_close(loss, expected)
    loss.backward()
    ours = [parameter.grad.clone() for parameter in model.parameters()]
    torch.testing.assert_close(
        ours, list(torch.autograd.grad(expected, list(model.parameters()))), rtol=1e-4, atol=1e-6
    )


def test_minimising_the_misalignment_alone_aligns_the_gradients() -> None:
    x, y = pictures()
    model = convolutional().eval()
    model[0].weight.data *= 10  # far from linear, so that there is something to align
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    penalties = []
    for step in range(40):
        other = x + Linf(0.3).random(x, generator(step))
        penalty = misalignment(input_gradient(model, x, y), input_gradient(model, other, y, create_graph=True))
        penalties.append(penalty.item())
        optimizer.zero_grad()
        penalty.backward()
        optimizer.step()
    first, last = sum(penalties[:5]) / 5, sum(penalties[-5:]) / 5
    assert first > 0.05, "nothing to align"
    assert last < 0.5 * first, f"from {first} to {last}"


def test_images_without_a_gradient_count_for_nothing_in_the_misalignment() -> None:
    one = torch.randn(4, 2, 3, 3, generator=generator(0))
    other = torch.randn(4, 2, 3, 3, generator=generator(1)).requires_grad_()
    assert misalignment(one, one) == pytest.approx(0, abs=1e-6)
    assert misalignment(one, -one) == pytest.approx(2)
    zeros = torch.tensor([1.0, 0, 1, 1]).view(4, 1, 1, 1)
    penalty = misalignment(1e-25 * one, other * zeros)
    rest = torch.tensor([0, 2, 3])
    torch.testing.assert_close(penalty, misalignment(one[rest], other[rest]))
    penalty.backward()
    assert other.grad.isfinite().all()
    assert misalignment(one, torch.zeros_like(one)) == 0


@in_all_balls
def test_frees_perturbation_stays_in_the_ball_and_moves_in_every_replay(ball: Ball) -> None:
    x, y = pictures(40)
    model = convolutional().eval()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with inputs_of(model) as seen:
        for loss in Free(name="free", replays=5).losses(model, x, y, ball, generator(), F.cross_entropy):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert len(seen) == 5, "a replay is one forward"
    for before, after in pairwise(seen):
        assert_adversarial(ball, x, after)
        assert not torch.equal(before, after)


@in_all_balls
def test_frees_replays_are_those_worked_out_one_by_one(ball: Ball) -> None:
    """One backward a replay gives what an input gradient of its own, taken before the step, would."""
    x, y = pictures()
    model, model_by_hand = convolutional().eval(), convolutional().eval()
    for loss in Free(name="free", replays=3).losses(model, x, y, ball, generator(), F.cross_entropy):
        model.zero_grad()
        loss.backward()
        torch.optim.SGD(model.parameters(), 0.1).step()
    delta = ball.start(x, generator())
    for _ in range(3):
        x_adv = (x + delta).clamp(0, 1)
        climb = input_gradient(model_by_hand, x_adv, y)
        model_by_hand.zero_grad()
        F.cross_entropy(model_by_hand(x_adv), y).backward()
        torch.optim.SGD(model_by_hand.parameters(), 0.1).step()
        delta = ball.move(x, x_adv - x, climb, ball.eps)
    torch.testing.assert_close(list(model.parameters()), list(model_by_hand.parameters()))


def test_free_says_so_when_no_backward_ran() -> None:
    x, y = pictures()
    losses = Free(name="free").losses(linear(), x, y, BALLS[0], generator(), F.cross_entropy)
    next(losses)
    with pytest.raises(RuntimeError, match="no backward"):
        next(losses)


@pytest.mark.parametrize(
    ("cls", "wrong"),
    [
        (FgsmRs, {"start": "one"}),
        (Nfgsm, {"noise": 0}),
        (Free, {"replays": 0}),
        (Trades, {"beta": -1}),
        (Gradalign, {"weight": 0}),
    ],
)
def test_settings_that_make_no_method_are_refused(cls: type[Attack], wrong: dict[str, object]) -> None:
    with pytest.raises(component.Invalid, match=next(iter(wrong))):
        component.validate(cls, {"name": cls.__name__.lower(), **wrong})


@pytest.mark.parametrize("name", ["fgsm_rs", "nfgsm", "pgd", "free", "trades"])
def test_a_step_size_that_is_given_is_taken_and_the_default_is_the_published_one(name: str) -> None:
    """Wong et al.: 1.25 eps; de Jorge et al. and Shafahi et al.: eps; Madry et al.: 2.5 eps / steps."""
    eps, steps = 0.1, {"pgd": 7, "trades": 10}
    default = 2.5 * eps / steps[name] if name in steps else {"fgsm_rs": 1.25 * eps}.get(name, eps)
    x, y = pictures()
    images = []
    for alpha in (None, default, 0.3 * default):
        settings = {"name": name} if alpha is None else {"name": name, "alpha": alpha}
        attack = component.validate(component.find("hpcfast.attacks", name), settings)
        assert isinstance(attack, Attack)
        images.append(attack.perturb(linear(), x, y, L2(eps), generator()))
    assert torch.equal(images[0], images[1])
    assert (images[0] != images[2]).flatten(1).any(1).all()


def test_the_misalignment_is_one_minus_the_mean_cosine_of_rows_that_have_a_direction() -> None:
    right, up = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    rows = {"alike": (right, 3 * right), "across": (right, up), "against": (right, -right), "none": (right, 0 * up)}
    found = {name: misalignment(*(row.view(1, 1, 1, 2) for row in pair)).item() for name, pair in rows.items()}
    assert found == pytest.approx({"alike": 0, "across": 1, "against": 2, "none": 0})
    both = [torch.stack(each).view(4, 1, 1, 2) for each in zip(*rows.values(), strict=True)]
    assert misalignment(both[0], both[1]).item() == pytest.approx((0 + 1 + 2) / 3)
    assert misalignment(both[1], both[0]).item() == pytest.approx((0 + 1 + 2) / 3)
