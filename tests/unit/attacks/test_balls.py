"""Promises of the norm balls, for every row of a batch."""

from itertools import product

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from hypothesis.extra.numpy import arrays
from torch import Tensor

from hpcfast.attacks.norms import L1, L2, Ball, Linf, RowWise, Threat, number
from hpcfast.component import Invalid, validate

BALLS = [Linf, L2, L1]
ORDERS = {Linf: float("inf"), L2: 2.0, L1: 1.0}
each_norm = pytest.mark.parametrize("kind", BALLS)
epsilons = st.sampled_from([1 / 255, 8 / 255, 0.5, 3.0])
seeds = st.integers(0, 2**32)


def batches(low: float, high: float) -> st.SearchStrategy[Tensor]:
    values = st.floats(low, high, width=32)
    return arrays("float32", (3, 2, 3, 2), elements=values).map(torch.from_numpy)


pictures = batches(0, 1)
shifts = batches(-100, 100)


def length(ball: Ball, delta: Tensor) -> Tensor:
    """Each row's norm, worked out in double precision."""
    return delta.double().flatten(1).norm(ORDERS[type(ball)], dim=1)


def assert_inside(ball: Ball, delta: Tensor) -> None:
    lengths = length(ball, delta)
    assert (lengths <= ball.eps * (1 + 1e-6)).all(), f"lengths {lengths.tolist()} for eps {ball.eps}"


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@each_norm
@given(x=pictures, eps=epsilons, seed=seeds)
def test_random_points_are_inside(kind: type[Ball], x: Tensor, eps: float, seed: int) -> None:
    ball = kind(eps)
    assert_inside(ball, ball.random(x, generator(seed)))


@each_norm
@given(x=pictures, eps=epsilons, seed=seeds)
def test_a_start_is_inside_and_keeps_pixels_legal(kind: type[Ball], x: Tensor, eps: float, seed: int) -> None:
    ball = kind(eps)
    delta = ball.start(x, generator(seed))
    assert length(ball, delta).max() <= eps * (1 + 1e-6) + 1e-6  # x + delta is rounded to float32
    assert (x + delta).min() >= -1e-7
    assert (x + delta).max() <= 1 + 1e-7


@each_norm
@given(x=pictures, delta=shifts, gradient=shifts, eps=epsilons, alpha=st.floats(0, 10))
def test_a_move_ends_inside_and_keeps_pixels_legal(
    kind: type[Ball], x: Tensor, delta: Tensor, gradient: Tensor, eps: float, alpha: float
) -> None:
    ball = kind(eps)
    moved = ball.move(x, delta, gradient, alpha)
    assert length(ball, moved).max() <= eps * (1 + 1e-6) + 1e-6
    assert (x + moved).min() >= -1e-7
    assert (x + moved).max() <= 1 + 1e-7


@each_norm
@given(delta=shifts)
def test_the_length_is_the_norm(kind: type[Ball], delta: Tensor) -> None:
    # In float32 the square of an entry below 1e-19 is zero: such a Euclidean length may be, too.
    torch.testing.assert_close(kind(1).length(delta).double(), length(kind(1), delta), rtol=1e-5, atol=1e-18)


@each_norm
@given(delta=shifts, eps=epsilons)
def test_a_projection_is_inside_and_idempotent(kind: type[Ball], delta: Tensor, eps: float) -> None:
    ball = kind(eps)
    once = ball.project(delta)
    assert_inside(ball, once)
    torch.testing.assert_close(ball.project(once), once, rtol=1e-6, atol=0)


@each_norm
@given(delta=shifts, other=shifts, eps=epsilons)
def test_a_projection_brings_no_two_points_further_apart(
    kind: type[Ball], delta: Tensor, other: Tensor, eps: float
) -> None:
    ball = kind(eps)
    before = (delta - other).double().flatten(1).norm(dim=1)
    after = (ball.project(delta) - ball.project(other)).double().flatten(1).norm(dim=1)
    assert (after <= before * (1 + 1e-6) + 1e-5 * eps).all(), f"{before.tolist()} became {after.tolist()}"


@each_norm
@given(delta=shifts, eps=epsilons)
def test_a_projection_leaves_inside_points_alone(kind: type[Ball], delta: Tensor, eps: float) -> None:
    ball = kind(eps)
    inside = delta * (0.999 * eps / length(ball, delta).clamp_min(0.999 * eps)).float().view(-1, 1, 1, 1)
    assert torch.equal(ball.project(inside), inside)


@each_norm
@given(delta=shifts, eps=epsilons, other=shifts)
def test_a_projection_is_the_nearest_point(kind: type[Ball], delta: Tensor, eps: float, other: Tensor) -> None:
    ball = kind(eps)
    nearest = (delta - ball.project(delta)).double().flatten(1).norm(dim=1)
    elsewhere = (delta - ball.project(other)).double().flatten(1).norm(dim=1)
    assert (nearest <= elsewhere * (1 + 1e-6) + 1e-5 * eps).all()


@given(gradient=shifts)
def test_linf_normalises_to_signs(gradient: Tensor) -> None:
    assert torch.equal(Linf(1).normalise(gradient), gradient.sign())


@given(gradient=shifts)
def test_l2_normalises_to_unit_length_and_keeps_zero(gradient: Tensor) -> None:
    zero = gradient.abs().flatten(1).amax(1) == 0
    lengths = length(L2(1), L2(1).normalise(gradient))
    torch.testing.assert_close(lengths, (~zero).double(), rtol=1e-5, atol=0)


@each_norm
@pytest.mark.parametrize("scale", [1e-30, 1e-10, 1e10, 1e30])
def test_normalising_does_not_depend_on_scale(kind: type[Ball], scale: float) -> None:
    gradient = torch.randn(5, 3, 8, 8, generator=generator(1))
    torch.testing.assert_close(kind(1).normalise(gradient * scale), kind(1).normalise(gradient))


@each_norm
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_normalising_half_precision_gives_unit_steps_in_float32(kind: type[Ball], dtype: torch.dtype) -> None:
    gradient = (6e-8 * torch.randint(-3, 4, (5, 3, 32, 32), generator=generator(0))).to(dtype)
    step = kind(1).normalise(gradient)
    assert step.dtype == torch.float32
    torch.testing.assert_close(length(kind(1), step), torch.ones(5, dtype=torch.float64), rtol=1e-5, atol=0)


@each_norm
@given(gradient=shifts, other=shifts)
def test_no_unit_step_climbs_faster_than_the_normalised_gradient(
    kind: type[Ball], gradient: Tensor, other: Tensor
) -> None:
    ball = kind(1)
    best, rival = ((ball.normalise(g).double() * gradient.double()).flatten(1).sum(1) for g in (gradient, other))
    assert (rival <= best + 1e-4 * gradient.double().abs().max()).all()


@pytest.mark.parametrize("kind", [L2, L1])
def test_a_start_has_a_uniform_radius(kind: type[Ball]) -> None:
    radii = length(kind(2.0), kind(2.0).random(torch.zeros(20_000, 1, 2, 2), generator(0))) / 2
    share_below = torch.stack([(radii < q).double().mean() for q in torch.linspace(0.1, 0.9, 9)])
    torch.testing.assert_close(share_below, torch.linspace(0.1, 0.9, 9).double(), rtol=0, atol=0.015)


def test_l2_start_direction_is_unbiased() -> None:
    deltas = L2(1.0).random(torch.zeros(20_000, 1, 2, 2), generator(0)).flatten(1)
    assert deltas.mean(0).abs().max() < 0.01
    covariance = deltas.T.cov()
    off_diagonal = covariance - covariance.diag().diag()
    assert off_diagonal.abs().max() < 0.01
    torch.testing.assert_close(covariance.diag(), torch.full((4,), 1 / 12), rtol=0.05, atol=0)


def test_an_l1_step_changes_a_hundredth_of_the_pixels_alike() -> None:
    gradient = torch.randn(4, 3, 20, 20, generator=generator(0))
    step = L1(1).normalise(gradient).flatten(1)
    assert ((step != 0).sum(1) == 12).all()
    torch.testing.assert_close(step.abs().amax(1), torch.full((4,), 1 / 12))
    steepest = gradient.flatten(1).abs().topk(12).indices
    assert torch.equal(step.gather(1, steepest).sign(), gradient.flatten(1).gather(1, steepest).sign())


@pytest.mark.parametrize("seed", range(3))
def test_an_l1_step_changes_only_pixels_that_can_move(seed: int) -> None:
    """Of digits most pixels are black: the steepest are often those that would have to be blacker still."""
    at = (4 * torch.rand(8, 1, 20, 20, generator=generator(seed)) - 1.5).clamp(0, 1)
    gradient = torch.randn(8, 1, 20, 20, generator=generator(seed + 9))
    moved = L1(2.0).move(at, torch.zeros_like(at), gradient, 0.1)
    able = torch.where(gradient > 0, at < 1, at > 0)
    assert not moved[~able].any()
    assert ((moved != 0).flatten(1).sum(1) == 4).all(), "a hundredth of the pixels"
    steepest = (gradient.abs() * able).flatten(1).topk(4).indices
    assert (moved.flatten(1).gather(1, steepest) != 0).all()


def test_where_no_pixel_can_move_an_l1_step_goes_nowhere() -> None:
    black = torch.zeros(2, 1, 5, 5)
    assert not L1(2.0).move(black, black, -torch.ones_like(black), 0.5).any()


def test_rows_of_several_balls_move_as_in_their_own() -> None:
    x = (2 * torch.rand(12, 2, 3, 3, generator=generator(0)) - 0.5).clamp(0, 1)
    gradient, balls = torch.randn(12, 2, 3, 3, generator=generator(1)), [L1(2.0), L2(0.5), Linf(0.1)]
    choice = torch.arange(12) % 3
    moved = RowWise(balls, choice).move(x, torch.zeros_like(x), gradient, 0.2)
    for place, ball in enumerate(balls):
        rows = choice == place
        own = ball.move(x[rows], torch.zeros_like(x[rows]), gradient[rows], 0.2)
        assert torch.equal(moved[rows], own)


def test_linf_start_is_uniform() -> None:
    values = Linf(1.0).random(torch.zeros(20_000, 1, 2, 2), generator(0)).flatten()
    shares = torch.histc(values, 10, -1, 1) / len(values)
    torch.testing.assert_close(shares, torch.full((10,), 0.1), rtol=0, atol=0.005)


@pytest.mark.parametrize(
    ("text", "expected"), [("8/255", 8 / 255), (" 1 / 4 ", 0.25), ("1e-1/2", 0.05), (0.5, 0.5), (3, 3)]
)
def test_fractions_are_numbers(text: object, expected: float) -> None:
    assert validate(Threat, {"norm": "L2", "eps": text}).eps == expected


@pytest.mark.parametrize("text", ["a/0", "8/0", "1/2/3", "a/b", "/", "", "-8/255", "0/255", None, [1]])
def test_what_is_no_positive_number_is_refused(text: object) -> None:
    assert number(text) == text or number(text) <= 0
    with pytest.raises(Invalid, match=r"^eps: "):
        validate(Threat, {"norm": "L2", "eps": text})


@pytest.mark.parametrize(("norm", "eps"), list(product(["Linf", "L2", "L1"], [0.1, 2])))
def test_a_threat_makes_its_ball(norm: str, eps: float) -> None:
    ball = validate(Threat, {"norm": norm, "eps": eps}).ball
    assert type(ball).__name__ == norm
    assert ball.eps == eps


def test_noise_of_an_l2_ball_has_about_its_length_and_no_direction() -> None:
    deltas = L2(2.0).noise(torch.zeros(2_000, 1, 28, 28), generator(0)).flatten(1)
    assert deltas.norm(dim=1).square().mean().sqrt().item() == pytest.approx(2.0, rel=0.01)
    assert deltas.norm(dim=1).std().item() < 0.06, "in high dimensions all lengths are nearly the same"
    assert deltas.mean(0).abs().max().item() < 0.01


def test_noise_of_an_linf_ball_is_its_random_start() -> None:
    x = torch.zeros(5, 1, 4, 4)
    torch.testing.assert_close(Linf(0.1).noise(x, generator(1)), Linf(0.1).random(x, generator(1)))
