"""Where time goes: the parts of the clock, in a run and in a step of training."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from hpcfast.config import RunConfig
from hpcfast.distributed.comm import World
from hpcfast.runs import clock
from hpcfast.runs.clock import PARTS, Clock
from hpcfast.training import train
from hpcfast.training.step import Learner
from tests.unit.training.test_learner import batch
from tests.unit.whole_runs import Killed, at_call, die

Tiny = Callable[..., RunConfig]


class Now:
    """The time that clocks see."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.at = 1000.0
        monkeypatch.setattr(clock.time, "time", lambda: self.at)
        monkeypatch.setattr(clock.time, "perf_counter", lambda: self.at)

    def passes(self, seconds: float) -> None:
        self.at += seconds


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> Now:
    return Now(monkeypatch)


def spent(subject: Clock) -> dict[str, float]:
    return {part: seconds for part, seconds in subject.seconds.items() if seconds}


def test_each_moment_counts_for_the_innermost_part(now: Now) -> None:
    subject = Clock()
    now.passes(3)
    subject.switch("other")
    with subject.part("evaluation"):
        now.passes(5)
        with subject.part("checkpoint"):
            now.passes(7)
        now.passes(11)
    now.passes(13)
    assert spent(subject) == {"start": 3, "evaluation": 16, "checkpoint": 7, "other": 13}
    assert sum(spent(subject).values()) == subject.wall == 39
    assert subject.own == 13


def test_a_block_that_fails_gives_its_part_back(now: Now) -> None:
    subject = Clock()

    def fail() -> None:
        with subject.part("guard"):
            now.passes(2)
            die()

    with pytest.raises(Killed):
        fail()
    now.passes(1)
    assert spent(subject) == {"guard": 2, "start": 1}


def test_what_happened_after_the_checkpoint_is_lost(now: Now) -> None:
    first = Clock()
    with first.part("update"):
        now.passes(10)
    saved = first.state_dict()
    now.passes(100)  # trained on, and killed
    resumed = Clock(started=first.started)
    now.passes(4)
    resumed.load_state_dict(saved)
    now.passes(1)  # still starting, for the second time
    resumed.switch("other")
    now.passes(2)
    assert spent(resumed) == {"update": 10, "lost": 105, "other": 2}
    assert sum(spent(resumed).values()) == resumed.wall == 117


def test_what_is_undone_is_lost_and_may_be_lost_again(now: Now) -> None:
    subject = Clock()
    subject.switch("other")
    saved = subject.state_dict()
    for lost in (5, 12):
        with subject.part("update"):
            now.passes(lost - subject.seconds["lost"])
        subject.load_state_dict(saved)
        assert spent(subject) == {"lost": lost}


def test_a_stopped_clock_stands_still_and_so_does_the_resumed_one(now: Now) -> None:
    subject = Clock()
    now.passes(8)
    assert subject.stop() == 8
    now.passes(1)
    resumed = Clock(started=subject.started)
    resumed.load_state_dict(subject.state_dict())
    now.passes(1)
    assert subject.stop() == resumed.stop() == 8
    assert (subject.seconds, resumed.wall) == (resumed.seconds, 10)


class Moment:
    """Of a device that works three times as long on the attack as the host thinks."""

    def __init__(self, at: float) -> None:
        self.at = at

    def synchronize(self) -> None: ...

    def elapsed_time(self, other: "Moment") -> float:
        """In milliseconds, as torch's events have it."""
        return 1000 * (other.at - self.at)


def test_a_devices_clock_divides_the_steps_time_one_step_later(now: Now) -> None:
    moments = iter([0, 3, 4, 4, 100, 101])
    subject = Clock(mark=lambda: Moment(next(moments)))
    subject.switch("attack")
    with subject.step():
        now.passes(1)
        subject.switch("update")
        now.passes(1)
        subject.switch("other")
        now.passes(2)
    assert spent(subject) == {"attack": 1, "update": 1, "other": 2}
    subject.switch("attack")
    with subject.step():
        now.passes(5)
    assert spent(subject) == {"attack": 3 + 5, "update": 1}
    assert sum(spent(subject).values()) == subject.wall


@pytest.mark.parametrize(
    ("attack", "forwards"),
    [
        ("{name: standard}", {"update": 1}),
        ("{name: fgsm_rs}", {"attack": 1, "update": 1}),
        ("{name: pgd, steps: 3, restarts: 2}", {"attack": 8, "update": 1}),
        ("{name: nfgsm}", {"attack": 1, "update": 1}),
        ("{name: trades, steps: 2}", {"attack": 3, "update": 2}),
        ("{name: gradalign}", {"attack": 2, "update": 1}),
        ("{name: free, replays: 2}", {"attack": 2}),
    ],
)
def test_forward_passes_count_for_what_they_are_made_for(
    attack: str, forwards: dict[str, int], tiny: Tiny, world: World
) -> None:
    torch.manual_seed(0)
    learner = Learner(tiny(f"attack={attack}"), 3, world)
    seen: list[str] = []

    def note(network: nn.Module, images: tuple[Tensor, ...]) -> None:
        seen.append(learner.clock.switch("other"))
        learner.clock.switch(seen[-1])

    learner.network.register_forward_pre_hook(note)
    turns: list[str] = []
    learner.clock.switch("other")
    learner.clock.watch = turns.append
    learner.step([batch()], learner.config.attack, 0.05, seed=0)
    assert {part: seen.count(part) for part in set(seen)} == forwards
    turns = [part for part in turns if part != "other"]
    assert turns[0] == "attack"
    assert "communication" in turns[turns.index("update") :]
    assert learner.clock.switch("other") == "other"


def test_the_parts_of_a_run_add_up_and_a_killed_run_has_lost_some(tiny: Tiny, world: World) -> None:
    config = tiny("epochs=2")
    with pytest.MonkeyPatch.context() as patch:
        at_call(patch, Learner, "step", 5, die)
        with pytest.raises(Killed):
            train.train(config, world)
    summary = train.train(config, world)
    assert set(summary["seconds"]) == set(PARTS)
    assert math.fsum(summary["seconds"].values()) == summary["clock_seconds"] < summary["wall_seconds"]
    for part in ("start", "attack", "update", "data_wait", "evaluation", "checkpoint", "lost"):
        assert summary["seconds"][part] > 0, part
    assert summary["data_wait"] == summary["seconds"]["data_wait"] / summary["train_seconds"]
    assert summary["nodes"] == 1
    assert summary["hardware"].endswith("1 thread a rank")


def test_the_clock_stops_when_the_target_is_reached(tiny: Tiny, world: World) -> None:
    check = "{attack: {name: standard}, images: 6}"
    target = [
        "target=0.01",
        f"evaluation.monitor={check}",
        f"evaluation.confirm=[{check}]",
        f"evaluation.final={check}",
    ]
    summary = train.train(tiny(*target), world)
    assert summary["target_reached_seconds"] == summary["clock_seconds"] == summary["time_to_robust_accuracy_seconds"]
