"""Learning-rate schedules: pure functions of the epoch."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from hpcfast import component
from hpcfast.optim.schedules import Schedule

PACKAGE = "hpcfast.optim.schedules"
EXAMPLES = {
    "cosine": {},
    "piecewise": {"knots": [[0, 0], [2, 1], [5, 0.1], [10, 0]]},
    "step": {"milestones": [3, 6], "gamma": 0.5},
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
    schedule = make(name, **EXAMPLES[name], warmup=warmup)
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
    cosine = make("cosine", warmup=2)
    assert [cosine.factor(at, 10) for at in (0, 1, 2, 6, 10)] == pytest.approx([0, 0.5, 1, 0.5, 0])


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 1)), min_size=1, unique_by=lambda knot: knot[0]))
def test_piecewise_goes_through_its_knots(knots: list[tuple[float, float]]) -> None:
    schedule = make("piecewise", knots=sorted(knots))
    for epoch, factor in knots:
        assert schedule.factor(epoch, 100) == pytest.approx(factor)


def test_piecewise_is_linear_between_knots_and_constant_outside() -> None:
    schedule = make("piecewise", knots=[[1, 0.2], [3, 1], [5, 0]])
    assert [schedule.factor(at, 9) for at in (0, 1, 2, 3, 4.5, 5, 9)] == pytest.approx([0.2, 0.2, 0.6, 1, 0.25, 0, 0])


@pytest.mark.parametrize("knots", [[], [[2, 1], [1, 0]], [[1, 0], [1, 1]]])
def test_piecewise_refuses_knots_that_do_not_increase(knots: list[list[float]]) -> None:
    with pytest.raises(component.Invalid, match="must increase; write e.g"):
        make("piecewise", knots=knots)


def test_step_falls_at_its_milestones() -> None:
    schedule = make("step", milestones=[3, 6], gamma=0.5)
    assert [schedule.factor(at, 9) for at in (0, 2.99, 3, 5.9, 6, 9)] == [1, 1, 0.5, 0.5, 0.25, 0.25]


@pytest.mark.parametrize(
    ("name", "wrong"),
    [("cosine", {"warmup": -1}), ("step", {"milestones": [0]}), ("step", {"milestones": [1], "gamma": 0})],
)
def test_wrong_settings_are_refused(name: str, wrong: dict[str, object]) -> None:
    with pytest.raises(component.Invalid, match="greater than"):
        make(name, **wrong)
