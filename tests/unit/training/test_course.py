"""Where a run stands: whatever the phases, every image of an epoch at most once, and an end."""

from collections.abc import Iterator
from copy import copy
from types import SimpleNamespace
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from hpcfast.config import Phase
from hpcfast.data.order import train_order
from hpcfast.training.course import Course, Position

KINDS = ("epochs", "steps", "images")


def phase(kind: str, amount: int, batch_size: int) -> Phase:
    return Phase.model_validate({kind: amount, "size": 8, "batch_size": batch_size})


def course(phases: tuple[Phase, ...], images: int, ranks: int, accumulate: int) -> Course:
    split: Any = SimpleNamespace(good=range(images), skips={})
    config: Any = SimpleNamespace(all_phases=phases, accumulate=accumulate, seed=0)
    return Course(split, config, ranks)


def changed(plan: Course, **changes: Any) -> Course:
    other = copy(plan)
    vars(other).update(changes)
    return other


@st.composite
def plans(draw: st.DrawFn, kinds: tuple[str, ...] = KINDS) -> Course:
    """Plans of up to three phases, none of whose global batches is larger than the data (train refuses those)."""
    ranks, accumulate = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    images = draw(st.integers(ranks * accumulate, 60))
    largest = images // (ranks * accumulate)
    phases = []
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(kinds))
        amount = draw(st.integers(1, {"epochs": 3, "steps": 20, "images": 150}[kind]))
        phases.append(phase(kind, amount, draw(st.integers(1, largest))))
    return course(tuple(phases), images, ranks, accumulate)


def walk(plan: Course, position: Position | None = None) -> Iterator[Position]:
    """The positions before each step, as the loop takes them, and at last the end's."""
    plan.position = position or Position()
    plan.enter_next()
    while not plan.finished:
        assert plan.steps > 0
        for _ in range(plan.steps):
            yield plan.position
            plan.advance()
        plan.enter_next()
    yield plan.position


def ids_by_epoch(plan: Course, position: Position) -> dict[int, list[int]]:
    """Ids that all ranks together read from ``position`` to the end, as the loop asks for them."""
    found: dict[int, list[int]] = {}
    plan.position = position
    plan.enter_next()
    while not plan.finished:
        batch, steps, epoch = plan.phase.batch_size * plan.accumulate, plan.steps, plan.epoch
        order = train_order(plan.good, 0, epoch, plan.ranks, batch, done=plan.position.offset, steps=steps)
        assert len(order) == steps * plan.global_batch
        found.setdefault(epoch, []).extend(order.tolist())
        for _ in range(steps):
            plan.advance()
        plan.enter_next()
    return found


@given(plans())
def test_every_image_of_an_epoch_is_trained_on_at_most_once(plan: Course) -> None:
    for epoch, ids in ids_by_epoch(plan, Position()).items():
        assert len(set(ids)) == len(ids), f"epoch {epoch}"


@given(plans(), st.data())
def test_another_number_of_ranks_goes_on_anywhere_with_the_rest_of_the_epoch(plan: Course, data: st.DataObject) -> None:
    before = list(walk(plan))
    at = data.draw(st.sampled_from(before))
    most = plan.good // plan.accumulate // max(p.batch_size for p in plan.phases)
    other = changed(plan, ranks=data.draw(st.integers(1, most)))
    order = np.random.default_rng([0, at.epoch]).permutation(plan.good)
    after = ids_by_epoch(other, at)
    rest = after.get(at.epoch, [])
    assert set(rest) <= set(order[at.offset :]), "an image that was trained on already comes again"
    for epoch, ids in after.items():
        assert len(set(ids)) == len(ids)
        if epoch != max(after):
            missed = plan.good - len(ids) - (at.offset if epoch == at.epoch else 0)
            assert missed < max(other.global_batch_of(p) for p in plan.phases)


@given(plans())
def test_each_phase_is_as_long_as_it_says(plan: Course) -> None:
    positions = list(walk(plan))
    for number, each in enumerate(plan.phases):
        first = next(p for p in positions if p.phase == number)
        last = next((p for p in positions if p.phase > number), positions[-1])
        steps, images = last.step - first.step, last.images - first.images
        batch = plan.global_batch_of(each)
        assert images == steps * batch
        if each.steps:
            assert steps == each.steps
        if each.images:
            assert 0 <= images - each.images < batch


@given(plans(kinds=("epochs",)))
def test_in_epochs_the_end_is_where_it_was_announced(plan: Course) -> None:
    *steps, end = walk(plan)
    assert plan.at == plan.epochs == sum(p.epochs or 0 for p in plan.phases)
    assert (end.epoch, end.offset) == (plan.epochs, 0)
    assert end.images == plan.total_images
    assert len(steps) == end.step == sum((p.epochs or 0) * plan.steps_an_epoch(p) for p in plan.phases)


@given(plans(kinds=("steps", "images")))
def test_in_steps_and_images_the_total_is_what_was_announced(plan: Course) -> None:
    *_, end = walk(plan)
    assert end.images == plan.total_images


@given(plans())
def test_settling_twice_is_settling_once(plan: Course) -> None:
    for position in walk(plan):
        assert not plan.enter_next()
        assert plan.position == position


@given(plans())
def test_time_never_runs_backwards(plan: Course) -> None:
    """Schedules are functions of it: the learning rate must not jump back where a phase with another batch begins."""
    times = [plan.at for _ in walk(plan)]
    assert times == sorted(times)


@given(plans())
def test_a_duration_that_is_one_phase_ends_at_its_length_in_epochs(plan: Course) -> None:
    alone = changed(plan, phases=plan.phases[:1])
    list(walk(alone))
    assert alone.at == pytest.approx(alone.epochs)


def test_an_example_by_hand() -> None:
    """20 images, 2 ranks: 3 steps of 2 x 3 images leave two over; then 10 images in steps of 2 x 2; then 3 steps."""
    plan = course(
        (phase("epochs", 1, 3), phase("images", 10, 2), phase("steps", 3, 3)), images=20, ranks=2, accumulate=1
    )
    seen = [(p.epoch, p.offset, p.step, p.images, p.phase) for p in walk(plan)]
    assert seen == [
        (0, 0, 0, 0, 0),
        (0, 6, 1, 6, 0),
        (0, 12, 2, 12, 0),
        (1, 0, 3, 18, 1),
        (1, 4, 4, 22, 1),
        (1, 8, 5, 26, 1),
        (1, 12, 6, 30, 2),
        (2, 0, 7, 36, 2),
        (2, 6, 8, 42, 2),
        (2, 12, 9, 48, 3),
    ]
    assert plan.total_images == 48


def test_a_run_of_many_epochs_is_counted_exactly() -> None:
    plan = course((phase("epochs", 90, 32),), images=10_000, ranks=7, accumulate=1)
    *_, end = walk(plan)
    assert (end.epoch, end.offset, end.step) == (90, 0, 90 * (10_000 // 224))


def test_a_batch_of_the_whole_data_makes_one_step_an_epoch() -> None:
    plan = course((phase("epochs", 3, 5),), images=11, ranks=2, accumulate=1)
    assert [p.epoch for p in walk(plan)] == [0, 1, 2, 3]
