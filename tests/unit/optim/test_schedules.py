"""Learning-rate schedules: pure functions of the epoch."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from hpcfast import component
from hpcfast.optim.schedules import Schedule

PACKAGE = "hpcfast.optim.schedules"
EXAMPLES = {
    "cosine": {},
    "piecewise": {"knots": [[0, 0], ["2 epochs", 1], ["50%", 0.1], ["1/1", 0]]},
    "step": {"milestones": ["3 epochs", "60%"], "gamma": 0.5},
}


def make(name: str, **settings: object) -> Schedule:
    schedule = component.validate(component.find(PACKAGE, name), {"name": name, **settings})
    assert isinstance(schedule, Schedule)
    return schedule


def test_every_schedule_has_an_example_here() -> None:
    assert set(EXAMPLES) == set(component.names(PACKAGE))


@pytest.mark.parametrize("name", EXAMPLES)
@given(epoch=st.floats(0, 10), warmup=st.floats(0, 9))
def test_a_factor_is_between_0_and_1_and_warm_up_only_lowers_it(name: str, epoch: float, warmup: float) -> None:
    schedule = make(name, **EXAMPLES[name], warmup=f"{warmup} epochs")
    factor = schedule.factor(epoch, 10)
    assert 0 <= factor <= 1
    if epoch < warmup:
        assert factor == pytest.approx(epoch / warmup * schedule.after_warmup(epoch, 10))
    else:
        assert factor == schedule.after_warmup(epoch, 10)


@given(st.floats(0, 10))
def test_cosine_is_half_a_wave_from_1_to_0(epoch: float) -> None:
    cosine = make("cosine")
    assert cosine.factor(epoch, 10) + cosine.factor(10 - epoch, 10) == pytest.approx(1)
    assert [cosine.factor(at, 10) for at in (0, 5, 10, 11)] == pytest.approx([1, 0.5, 0, 0])


def test_cosine_starts_where_the_warm_up_ends() -> None:
    cosine = make("cosine", warmup="2 epochs")
    assert [cosine.factor(at, 10) for at in (0, 1, 2, 6, 10)] == pytest.approx([0, 0.5, 1, 0.5, 0])


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 1)), min_size=1, unique_by=lambda knot: knot[0]))
def test_piecewise_goes_through_its_knots(knots: list[tuple[float, float]]) -> None:
    schedule = make("piecewise", knots=[[f"{at} epochs", factor] for at, factor in sorted(knots)])
    for epoch, factor in knots:
        assert schedule.factor(epoch, 100) == pytest.approx(factor)


def test_piecewise_is_linear_between_knots_and_constant_outside() -> None:
    schedule = make("piecewise", knots=[["1 epoch", 0.2], ["1/3", 1], ["5 epochs", 0]])
    assert [schedule.factor(at, 9) for at in (0, 1, 2, 3, 4.5, 5, 9)] == pytest.approx([0.2, 0.2, 0.6, 1, 0.25, 0, 0])


@pytest.mark.parametrize("knots", [[], [["2%", 1], ["1%", 0]], [["1 epoch", 0], ["50%", 0.5], ["1 epoch", 1]]])
def test_piecewise_refuses_knots_that_do_not_increase(knots: list[list[object]]) -> None:
    with pytest.raises(component.Invalid, match="must increase; write e.g"):
        make("piecewise", knots=knots)


def test_step_falls_at_its_milestones() -> None:
    schedule = make("step", milestones=["1/3", "6 epochs"], gamma=0.5)
    assert [schedule.factor(at, 9) for at in (0, 2.99, 3, 5.9, 6, 9)] == [1, 1, 0.5, 0.5, 0.25, 0.25]


@pytest.mark.parametrize(
    ("name", "wrong"),
    [("step", {"milestones": [0]}), ("step", {"milestones": ["1%"], "gamma": 0})],
)
def test_wrong_settings_are_refused(name: str, wrong: dict[str, object]) -> None:
    with pytest.raises(component.Invalid, match="greater than"):
        make(name, **wrong)


@given(st.integers(1, 400), st.integers(1, 400), st.integers(1, 400))
def test_a_share_that_is_a_whole_epoch_is_that_epoch(epoch: int, more: int, times: int) -> None:
    epochs = epoch + more
    step = make("step", milestones=[f"{epoch}/{epochs}"], gamma=0.5)
    assert step.factor(epoch * times, epochs * times) == 0.5
    assert step.factor(epoch * times - 1e-6, epochs * times) == 1


def test_positions_that_the_run_does_not_reach_are_named() -> None:
    assert make("piecewise", knots=[[0, 0], ["3 epochs", 1], ["100%", 0]]).late(2) == ["3 epochs"]
    assert make("step", milestones=["2 epochs", "99%"]).late(2) == ["2 epochs"]
    assert make("cosine").late(2) == []


@pytest.mark.parametrize("given", ["5", 5, 0.5, True, "-5%", "5 steps", "1e999 epochs", None, [1], "nan%"])
def test_a_position_without_a_unit_is_refused(given: object) -> None:
    with pytest.raises(component.Invalid, match="warmup"):
        make("cosine", warmup=given)
