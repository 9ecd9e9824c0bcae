"""What a run's events tell: curves, rollbacks, resumed runs, speed and the timeline."""

from hpcfast.report.history import Point, tell
from tests.unit.stories import Story, collapsing


def values(points: list[Point]) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in points]


def test_a_rollback_keeps_what_it_undid_apart() -> None:
    history = tell(collapsing().events)
    assert values(history.kept["train_loss"]) == [(5, 2.0), (10, 2.0), (15, 1.5), (20, 1.5)]
    assert values(history.kept["strong"]) == [(10, 0.5), (20, 0.6)]
    (undone,) = history.undone
    assert values(undone["train_loss"]) == [(15, 1.0), (20, 1.0)]
    assert (undone["strong"][0].value, undone["seen"][0].value) == (0.1, 0.9)
    assert "robust_accuracy" not in undone
    assert history.answers == ["pgd 2 x 1"]
    assert history.epoch == 2.0


def test_after_a_rollback_to_the_start_only_the_undone_may_be_left() -> None:
    story = Story()
    story.train(loss=2.0)
    story.look(0.9, 0.1)
    story.roll_back(0)
    history = tell(story.events)
    assert "strong" not in history.kept
    assert len(history.undone) == 1
    assert history.epoch == 0


def test_of_repeated_steps_the_later_line_wins() -> None:
    story = Story()
    story.train(loss=2.0)
    story.train(loss=3.0, steps=7, stop=False)  # killed: the last checkpoint was made after 12 steps
    story.start(ranks=2, step=12)
    story.train(loss=1.0, steps=8)
    history = tell(story.events)
    assert values(history.kept["train_loss"]) == [(5, 2.0), (10, 2.0), (15, 1.0), (20, 1.0)]
    assert not history.undone
    assert history.start["world_size"] == 2
    first, second = history.timeline
    assert (first.what, first.detail) == ("started", "ranks: 1, device: cpu")
    assert (second.what, second.step) == ("resumed", 12)
    assert second.detail == "ranks: 2, device: cpu; at least 3 steps were lost and are repeated"


def test_a_look_that_is_repeated_counts_once() -> None:
    story = Story()
    story.train(loss=2.0)
    story.look(0.6, 0.5)
    story.start(step=10)  # killed before the look was saved
    story.look(0.6, 0.4)
    assert values(tell(story.events).kept["strong"]) == [(10, 0.4)]


def test_the_timeline_has_what_happened_to_the_run() -> None:
    story = collapsing()
    story.add("run_interrupted", "SIGTERM")
    story.start(step=20)
    story.add("target_reached", 0.6)
    story.add("run_stop", {"status": "finished"})
    timeline = tell(story.events).timeline
    assert [(moment.what, moment.detail) for moment in timeline] == [
        ("started", "ranks: 1, device: cpu"),
        ("rollback", "seen 90%, strong 10%: from step 20 to 10, resumed with pgd 2 x 1"),
        ("stopped", "SIGTERM"),
        ("resumed", "ranks: 1, device: cpu"),
        ("target reached", "robust accuracy 60.0%"),
        ("finished", ""),
    ]


def test_a_loss_that_is_no_number_is_no_point() -> None:
    story = Story()
    story.step = 5
    story.add("train_loss", "nan")
    assert "train_loss" not in tell(story.events).kept


def test_a_run_without_events_has_no_history() -> None:
    history = tell([])
    assert (history.kept, history.timeline, history.epoch, history.start) == ({}, [], 0.0, {})
