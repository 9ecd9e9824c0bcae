"""What a run's events tell: curves, rollbacks, resumed runs, speed and the timeline."""

from pathlib import Path

import pytest

from hpcfast.report.history import Curve, History, tell
from tests.unit.stories import SECONDS, Story, collapsing, settings


def told(story: Story, folder: Path, *overrides: str) -> History:
    return tell(story.events, settings(folder, *overrides))


def values(curve: Curve) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in curve.kept]


def test_a_rollback_keeps_what_it_undid_apart(tmp_path: Path) -> None:
    history = told(collapsing(), tmp_path)
    loss = history.curves["train_loss"]
    assert values(loss) == [(5, 2.0), (10, 2.0), (15, 1.5), (20, 1.5)]
    assert [[(point.step, point.value) for point in part] for part in loss.undone] == [[(15, 1.0), (20, 1.0)]]
    assert values(history.curves["strong"]) == [(10, 0.5), (20, 0.6)]
    assert history.curves["strong"].undone[0][0].value == 0.1
    assert history.curves["seen"].undone[0][0].value == 0.9
    assert not history.curves["robust_accuracy"].undone
    (back,) = history.rollbacks
    assert (back.from_epoch, back.to_epoch, back.attack) == (2.0, 1.0, "pgd 2 x 1")
    assert history.looks == [1.0, 2.0]
    assert history.epoch == 2.0


def test_after_a_rollback_to_the_start_only_the_undone_may_be_left(tmp_path: Path) -> None:
    story = Story()
    story.train(loss=2.0)
    story.look(0.9, 0.1)
    story.roll_back(0)
    history = told(story, tmp_path)
    assert history.curves["strong"].kept == []
    assert len(history.curves["strong"].undone) == 1
    assert history.epoch == 0


def test_of_repeated_steps_the_later_line_wins(tmp_path: Path) -> None:
    story = Story()
    story.train(loss=2.0)
    story.train(loss=3.0, steps=7, stop=False)  # killed: the last checkpoint was made after 12 steps
    story.start(ranks=2, step=12)
    story.train(loss=1.0, steps=8)
    history = told(story, tmp_path)
    assert values(history.curves["train_loss"]) == [(5, 2.0), (10, 2.0), (15, 1.0), (20, 1.0)]
    assert not history.curves["train_loss"].undone
    assert history.start["world_size"] == 2
    first, second = history.timeline
    assert (first.what, first.detail) == ("started", "ranks: 1, device: cpu")
    assert (second.what, second.step) == ("resumed", 12)
    assert second.detail == "ranks: 2, device: cpu; at least 3 steps were lost and are repeated"


def test_a_look_that_is_repeated_counts_once(tmp_path: Path) -> None:
    story = Story()
    story.train(loss=2.0)
    story.look(0.6, 0.5)
    story.start(step=10)  # killed before the look was saved
    story.look(0.6, 0.4)
    assert values(told(story, tmp_path).curves["strong"]) == [(10, 0.4)]


def test_images_a_second_follow_from_steps_batch_ranks_and_time(tmp_path: Path) -> None:
    story = Story(ranks=2)
    story.train(loss=1.0)
    story.train(loss=1.0, steps=3, stop=False)
    story.start(ranks=4, step=13)
    story.train(loss=1.0, steps=7)
    speed = told(story, tmp_path, "accumulate=3").curves["images_per_second"]
    assert values(speed) == [(10, 8 * 2 * 3 / SECONDS), (20, 8 * 4 * 3 / SECONDS)]


@pytest.mark.parametrize("lasts", ["epochs: 1", "steps: 10", "images: 80"])
def test_a_phase_has_its_own_batch(tmp_path: Path, lasts: str) -> None:
    phases = f"phases=[{{{lasts}, size: 8, batch_size: 8}}, {{epochs: 2, size: 10, batch_size: 4}}]"
    story = Story()
    for _ in range(3):
        story.train(loss=1.0)
    speed = told(story, tmp_path, "epochs=null", phases).curves["images_per_second"]
    assert [value for _, value in values(speed)] == [8 / SECONDS, 4 / SECONDS, 4 / SECONDS]


def test_the_timeline_has_what_happened_to_the_run(tmp_path: Path) -> None:
    story = collapsing()
    story.add("run_interrupted", "SIGTERM")
    story.start(step=20)
    story.add("target_reached", 0.6)
    story.add("run_requeued", 3)
    story.add("run_stop", {"status": "finished"})
    timeline = told(story, tmp_path).timeline
    assert [(moment.what, moment.detail) for moment in timeline] == [
        ("started", "ranks: 1, device: cpu"),
        ("rollback", "seen 90%, strong 10%: from step 20 to 10, resumed with pgd 2 x 1"),
        ("stopped", "SIGTERM"),
        ("resumed", "ranks: 1, device: cpu"),
        ("target reached", "robust accuracy 60.0%"),
        ("requeued", "3"),
        ("finished", ""),
    ]


def test_a_loss_that_is_no_number_is_no_point(tmp_path: Path) -> None:
    story = Story()
    story.step = 5
    story.add("train_loss", "nan")
    assert "train_loss" not in told(story, tmp_path).curves


def test_a_run_without_events_has_no_history(tmp_path: Path) -> None:
    history = tell([], settings(tmp_path))
    assert (history.curves, history.timeline, history.epoch, history.last, history.start) == ({}, [], 0.0, None, {})
