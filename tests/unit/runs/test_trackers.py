"""Trackers follow a run's log, and neither what they lack nor what they do can harm the run."""

import os
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hpcfast.config import RunConfig
from hpcfast.distributed.comm import World
from hpcfast.errors import UserError
from hpcfast.runs import trackers
from hpcfast.runs.directory import RunDirectory
from hpcfast.runs.events import EventLog
from hpcfast.runs.trackers import About, Point, Tracker, following, tensorboard
from hpcfast.runs.trackers.following import Followers, History
from hpcfast.training import train
from hpcfast.training.state import Run
from tests.unit.whole_runs import assert_equal_ends

Tiny = Callable[..., RunConfig]


class Shown:
    """What one opening of a tracker was told."""

    def __init__(self, run: About) -> None:
        self.run, self.points, self.ends = run, list[tuple[str, float, int]](), list[Any]()

    def log(self, points: Sequence[Point]) -> None:
        self.points += [(point.key, point.value, point.step) for point in points if point.key != "epoch"]

    def end(self, summary: dict[str, Any] | None) -> None:
        self.ends.append(summary)


class Faulty(Shown):
    def log(self, points: Sequence[Point]) -> None:
        if any(point.step == 2 for point in points):
            raise ConnectionError("no route to host\nand much more")


class Hanging(Shown):
    """It answers only when the run has ended, and then with a fault."""

    over = threading.Event()

    def log(self, points: Sequence[Point]) -> None:
        self.over.wait()
        raise ConnectionError("too late")


class Fake(Tracker):
    """Opens ``kind``; class attributes, as a Component's fields are settings."""

    kind: Any = Shown
    opened: Any = None

    @property
    def library(self) -> str:
        return "json"

    def open(self, run: About) -> Shown:
        shown: Shown = self.kind(run)
        self.opened.append(shown)
        return shown


def fake(kind: type[Shown] = Shown) -> Fake:
    return Fake.model_construct(name=kind.__name__.lower(), kind=kind, opened=[])


def follow(folder: Path, *them: Tracker, say: Callable[[str], None] = print) -> tuple[EventLog, Followers]:
    """Followers of the log in ``folder``, as a run makes them."""
    followers = Followers(them, RunDirectory(folder), {"name": "me"}, say)
    log = EventLog(folder / "events.jsonl")
    log.listeners.append(followers.tell)
    return log, followers


def losses(log: EventLog, *steps: int, value: float = 1.0) -> None:
    for step in steps:
        log.write("train_loss", value, step=step, epoch=step / 2)


def test_only_numbers_that_count_are_shown_each_with_its_epoch() -> None:
    def event(key: str, value: Any, step: int) -> dict[str, Any]:
        return {"key": key, "value": value, "step": step, "epoch": step / 2, "time": 5.0}

    history = History([event("init_start", {"job_started": 1.5}, 0), event("train_loss", 3.0, 1)])
    assert history.points == [Point("train_loss", 3.0, 1, 5.0), Point("epoch", 0.5, 1, 5.0)]
    health = {"seen": 0.75, "strong": 0.5, "alignment": None}
    assert [point[:3] for point in history.add(event("guard", health, 2))] == [
        ("guard/seen", 0.75, 2), ("guard/strong", 0.5, 2), ("epoch", 1.0, 2),
    ]  # fmt: skip
    for key, value in (("train_loss", "nan"), ("train_loss", float("inf")), ("eval_start", "final"), ("x", True)):
        assert history.add(event(key, value, 3)) == []
    assert history.add(event("train_loss", 4.0, 1)) == [], "the step was shown before"
    for key in ("init_stop", "rollback"):
        assert history.add(event("train_loss", 2.0, 4))
        history.add(event(key, None, 2))
        assert {point.step for point in history.points} == {1, 2}


def test_a_tracker_is_told_what_was_and_what_comes_and_how_it_ended(tmp_path: Path) -> None:
    losses(EventLog(tmp_path / "events.jsonl"), 1, 2)
    tracker = fake()
    log, followers = follow(tmp_path, tracker)
    with followers:
        losses(log, 3)
        followers.finish({"steps": 3})
    (shown,) = tracker.opened
    assert shown.points == [("train_loss", 1.0, step) for step in (1, 2, 3)]
    assert shown.ends == [{"steps": 3}]
    assert shown.run.folder == tmp_path / "trackers" / "shown"


def test_after_a_rollback_it_is_shown_anew_as_it_counts(tmp_path: Path) -> None:
    tracker = fake()
    log, followers = follow(tmp_path, tracker)
    with followers:
        losses(log, 1, 2, 3)
        log.write("rollback", step=1, epoch=0.5)
        losses(log, 2, value=5.0)
    assert len(tracker.opened) == 2
    assert tracker.opened[-1].points == [("train_loss", 1.0, 1), ("train_loss", 5.0, 2)]
    assert tracker.opened[-1].ends == [None]


def test_all_processes_of_a_run_show_one_run_and_another_run_of_the_name_another(tmp_path: Path) -> None:
    seen = []
    for folder in ("one", "one", "other"):
        (tmp_path / folder).mkdir(exist_ok=True)
        if not (tmp_path / folder / "events.jsonl").exists():
            EventLog(tmp_path / folder / "events.jsonl").write("init_start", step=0, epoch=0)
        tracker = fake()
        with follow(tmp_path / folder, tracker)[1]:
            pass
        seen.append(tracker.opened[0].run.id)
    assert seen[0] == seen[1] != seen[2]


def test_a_tracker_that_raises_is_named_once_and_the_others_go_on(tmp_path: Path) -> None:
    said: list[str] = []
    faulty, sound = fake(Faulty), fake()
    log, followers = follow(tmp_path, faulty, sound, say=said.append)
    with followers:
        losses(log, *range(1, 6))
    assert said == ["tracker faulty: no route to host; the run goes on without it"]
    assert len(sound.opened[0].points) == 5
    assert faulty.opened[0].ends == []


def test_a_tracker_that_hangs_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "PATIENCE", 0.0)
    said: list[str] = []
    log, followers = follow(tmp_path, fake(Hanging), say=said.append)
    with followers:
        losses(log, 1)
    Hanging.over.set()
    for follower in followers._followers:
        follower._thread.join()
    assert said == ["tracker hanging: gives no answer; the run ends without it"]


def test_a_fault_of_a_tracker_changes_nothing_of_a_run(
    tiny: Tiny, plain: RunConfig, world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(self: Any, points: Sequence[Point]) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tensorboard._Sink, "log", fail)
    config = tiny("trackers=[tensorboard]")
    train.train(config, world)
    assert capsys.readouterr().out.count("No space left on device; the run goes on without it") == 1
    assert_equal_ends(config, plain)


@pytest.mark.parametrize(
    ("tracker", "package", "library"),
    [
        ("tensorboard", "tensorboard", "tensorboard"),
        ("wandb", "wandb", "wandb"),
        ("{name: wandb, client: trackio}", "trackio", "trackio"),
        ("mlflow", "mlflow-skinny", "mlflow"),
    ],
)
def test_a_missing_package_is_told_before_anything_is_done(
    tracker: str, package: str, library: str, tiny: Tiny, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    monkeypatch.setitem(sys.modules, library, None)
    config = tiny(f"trackers=[{tracker}]")
    with pytest.raises(UserError, match=f"needs the package {package},.*'pip install {package}' installs it"):
        train.train(config, world)
    assert not config.folder.exists()


def test_what_keeps_a_library_off_the_network_is_set_unless_the_user_did(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, environment = tiny("trackers=[mlflow, wandb]"), {"MLFLOW_DISABLE_TELEMETRY": "by the user"}
    monkeypatch.setattr(os, "environ", environment)
    monkeypatch.setattr(trackers.importlib, "import_module", lambda name: None)
    trackers.require(config.trackers)
    assert environment["MLFLOW_DISABLE_TELEMETRY"] == "by the user"
    assert environment["WANDB_ERROR_REPORTING"] == "false"


def test_other_trackers_are_no_other_run(tiny: Tiny, world: World, capsys: pytest.CaptureFixture[str]) -> None:
    train.train(tiny("epochs=1"), world)
    train.train(tiny("epochs=1", "trackers=[tensorboard]"), world)
    assert "is finished already" in capsys.readouterr().out
    assert not (tiny().folder / "trackers").exists()
    train.train(tiny("epochs=1", "trackers=[tensorboard]"), world, overwrite=True)
    assert (tiny().folder / "trackers" / "tensorboard").is_dir()
    train.train(tiny("epochs=1"), world, overwrite=True)
    assert not (tiny().folder / "trackers").exists(), "an earlier run's"


@pytest.mark.parametrize("root", [True, False])
def test_only_rank_0_tells_them(root: bool, tiny: Tiny, tmp_path: Path) -> None:
    config = tiny("trackers=[tensorboard]")
    config.folder.mkdir(parents=True)
    EventLog(config.folder / "events.jsonl").write("init_start", step=0, epoch=0)
    run: Any = SimpleNamespace(
        config=config, world=SimpleNamespace(is_root=root), dir=RunDirectory(config.folder), _log=EventLog(None),
        reporter=SimpleNamespace(say=print),
    )  # fmt: skip
    with Run.followers(run):
        pass
    assert (config.folder / "trackers").exists() == root
