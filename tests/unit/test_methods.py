"""Training methods: what each of them minimises."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hpcfast import component
from hpcfast.attacks import Attack, input_gradient, noise
from hpcfast.attacks.balls import L2, Ball, Linf, RowWise
from hpcfast.attacks.fgsm import Fgsm
from hpcfast.attacks.free import Free
from hpcfast.attacks.gradalign import Gradalign, misalignment
from hpcfast.attacks.mixed import Mixed
from hpcfast.attacks.nfgsm import Nfgsm
from hpcfast.attacks.trades import Trades
from tests.unit.nets import BALLS, assert_adversarial, ball_name, convolutional, linear, pictures

in_all_balls = pytest.mark.parametrize("ball", BALLS, ids=ball_name)
THREATS = [{"norm": "Linf", "eps": 8 / 255}, {"norm": "L2", "eps": 0.5}]
INNER = [
    {"name": "fgsm"},
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
    component.validate(component.find("hpcfast.attacks", "natural"), {"name": "natural"}),
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
@pytest.mark.parametrize("name", ["fgsm", "nfgsm", "pgd"])
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


def test_a_row_wise_ball_is_each_rows_own() -> None:
    x, _ = pictures(40)
    balls, choice = [Linf(0.1), L2(0.5), L2(0.2)], torch.arange(40) % 3
    union, delta = RowWise(balls, choice), torch.randn(40, 2, 3, 3, generator=generator())
    for i, ball in enumerate(balls):
        rows = choice == i
        assert torch.equal(union.normalise(delta)[rows], ball.normalise(delta)[rows])
        assert torch.equal(union.project(delta)[rows], ball.project(delta)[rows])
        assert (lengths(ball, union.random(x, generator())[rows]) <= ball.eps + 1e-6).all()
        assert (union.eps.flatten()[rows] == torch.tensor(ball.eps)).all()


def test_every_image_of_a_mixture_is_in_one_of_the_balls_and_all_are_drawn() -> None:
    x, y = torch.full((200, 2, 3, 3), 0.5), torch.arange(200) % 3
    threats = [{"norm": "Linf", "eps": 0.1}, {"norm": "L2", "eps": 0.1}]
    method = component.validate(Mixed, {"name": "mixed", "threats": threats, "attack": {"name": "fgsm"}})
    delta = method.perturb(linear(), x, y, L2(9.0), generator()) - x
    cube, sphere = lengths(Linf(0.1), delta) <= 0.1 + 1e-6, lengths(L2(0.1), delta) <= 0.1 + 1e-6
    assert (cube | sphere).all()
    assert 70 < sphere.sum() < 130, f"{sphere.sum()} of 200 images got the second of two threats"


def test_a_mixture_gives_each_image_what_its_own_threat_would() -> None:
    """With the starts of the union, the step from each row is that of the row's own ball."""
    x, y = pictures(40)
    ids = torch.arange(40)
    draws = torch.cat([noise.uniform(x[:1, :1, :1, :1], [g]).flatten() for g in noise.per_image(0, ids)])
    x_adv = mixed(name="gradalign").perturb(linear(), x, y, L2(9.0), noise.per_image(0, ids))
    for i, ball in enumerate([Linf(8 / 255), L2(0.5)]):
        rows = (2 * draws).long() == i
        alone = Gradalign(name="gradalign").perturb(linear(), x[rows], y[rows], ball, generator())
        torch.testing.assert_close(x_adv[rows], alone, rtol=0, atol=1e-6)
        assert rows.any()


def test_a_mixture_attacks_whole_batches_once() -> None:
    x, y = pictures()
    model = linear()
    with inputs_of(model) as seen:
        mixed(name="fgsm").perturb(model, x, y, BALLS[0], generator())
    assert [len(batch) for batch in seen] == [len(x)]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"attack": {"name": "pgd", "restarts": 2}}, ["attack", "restarts 2", "leave it at 1"]),
        ({"attack": {"name": "apgd"}}, ["attack", "'apgd' cannot be mixed", "e.g. fgsm"]),
        (
            {"attack": {"name": "mixed", "threats": THREATS, "attack": {"name": "fgsm"}}},
            ["attack", "'mixed' cannot be mixed", "e.g. fgsm"],
        ),
        ({"threats": THREATS[:1]}, ["threats", "at least 2"]),
        ({"threats": [*THREATS, {"norm": "L3", "eps": 1}]}, ["threats.2.norm", "'L3'", "'L2'"]),
        ({"attack": {"name": "fgsm", "alfa": 1}}, ["attack.alfa", "did you mean 'alpha'"]),
    ],
)
def test_a_mixture_that_cannot_work_is_refused_with_the_cure(settings: dict[str, object], words: list[str]) -> None:
    with pytest.raises(component.Invalid) as error:
        component.validate(Mixed, {"name": "mixed", "threats": THREATS, "attack": {"name": "fgsm"}, **settings})
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("cls", "wrong"),
    [
        (Fgsm, {"start": "one"}),
        (Nfgsm, {"noise": 0}),
        (Free, {"replays": 0}),
        (Trades, {"beta": -1}),
        (Gradalign, {"weight": 0}),
    ],
)
def test_settings_that_make_no_method_are_refused(cls: type[Attack], wrong: dict[str, object]) -> None:
    with pytest.raises(component.Invalid, match=next(iter(wrong))):
        component.validate(cls, {"name": cls.__name__.lower(), **wrong})


def test_a_mixtures_settings_survive_being_written_and_read() -> None:
    method = mixed(name="nfgsm", noise=3)
    assert component.validate(Mixed, method.model_dump(mode="json")) == method
