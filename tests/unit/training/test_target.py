"""A target ends the training, and what confirms it."""

from collections.abc import Callable
from typing import Any

import pytest

from hpcfast.config import RunConfig
from hpcfast.distributed.comm import World
from hpcfast.evaluation import evaluate
from hpcfast.training import train, validation
from tests.unit.whole_runs import Killed, at_call, die, different, last_state, logged, losses, weights

Tiny = Callable[..., RunConfig]


def scripted(monkeypatch: pytest.MonkeyPatch, monitor: list[float], final: float) -> None:
    """Let evaluations find these robust accuracies."""
    at_epochs, at_the_end, left = validation.evaluate, validation.evaluate_cached, iter(monitor)

    def monitored(*args: Any) -> dict[str, Any]:
        return {**at_epochs(*args), "robust_accuracy": next(left)}

    def finished(*args: Any, **options: Any) -> tuple[dict[str, Any], Any]:
        result, place = at_the_end(*args, **options)
        return {**result, "robust_accuracy": final}, place

    monkeypatch.setattr(validation, "evaluate", monitored)
    monkeypatch.setattr(validation, "evaluate_cached", finished)


def test_a_target_that_is_reached_ends_the_training(tiny: Tiny, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, [0.3, 0.7], final=0.7)
    config = tiny("target=0.7", "epochs=9")
    summary = train.train(config, world)
    assert (summary["status"], summary["epochs"], summary["target"]) == ("finished", 2, 0.7)
    assert 0 < summary["time_to_robust_accuracy_seconds"] < summary["wall_seconds"]
    assert logged(config, "target_reached") == [0.7]
    assert last_state(config)["position"]["step"] == 6
    assert not different(last_state(config)["learner"]["model"], weights(config))


def test_the_monitor_must_exceed_the_target_by_the_margin(
    tiny: Tiny, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, [0.29, 0.3], final=0.1)
    summary = train.train(tiny("target=0.1", "target_margin=0.2"), world)  # whose sum is not 0.3, but a bit more
    assert (summary["epochs"], summary["target"], summary["target_margin"]) == (2, 0.1, 0.2)
    assert summary["time_to_robust_accuracy_seconds"] == summary["target_reached_seconds"] > 0


def test_every_attack_of_the_confirmation_must_leave_the_target(
    tiny: Tiny, world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(validation, "evaluate", lambda *args: {**evaluate(*args), "robust_accuracy": 0.3})
    weak, strong = "{attack: {name: standard}}", "{attack: {name: pgd, steps: 9}, images: 9}"
    config = tiny("target=0.05", f"evaluation.confirm=[{weak}, {strong}]", "threat.eps=5")
    summary = train.train(config, world)
    first, second = summary["confirmation"]
    assert first["robust_accuracy"] >= 0.05 > second["robust_accuracy"]
    assert (first["n_eval"], second["n_eval"], second["attack"]["steps"]) == (12, 9, 9)
    assert set(first) == {"attack", "robust_accuracy", "clean_accuracy", "n_eval", "ci95"}
    assert summary["epochs"] == 1
    assert summary["target_reached_seconds"] > 0
    assert summary["time_to_robust_accuracy_seconds"] is None
    assert "so the run counts as not converged: raise target_margin" in capsys.readouterr().out


def test_a_confirmation_that_was_killed_goes_on(tiny: Tiny, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, [0.7], final=0.8)
    config = tiny("target=0.7", "evaluation.confirm=[{attack: {name: pgd, steps: 2}}, {attack: {name: apgd}}]")
    with monkeypatch.context() as patch:
        at_call(patch, validation, "evaluate_cached", 3, die)
        with pytest.raises(Killed):
            train.train(config, world)
    kept = sorted(config.folder.glob("evaluations/*/result.json"))
    times = [path.stat().st_mtime_ns for path in kept]
    assert len(kept) == 2
    summary = train.train(config, world)
    assert [each["attack"]["name"] for each in summary["confirmation"]] == ["pgd", "apgd"]
    assert [path.stat().st_mtime_ns for path in kept] == times, "no evaluation is made twice"


def test_a_target_that_is_not_reached_has_no_time(tiny: Tiny, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, [0.1, 0.2, 0.3], final=0.9)
    summary = train.train(tiny("target=0.7"), world)
    assert (summary["epochs"], summary["time_to_robust_accuracy_seconds"]) == (3, None)
    assert logged(tiny(), "target_reached") == []


def test_without_a_target_there_is_no_time(tiny: Tiny, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, [0.9, 0.9, 0.9], final=0.9)
    summary = train.train(tiny(), world)
    assert (summary["epochs"], summary["target"], summary["time_to_robust_accuracy_seconds"]) == (3, None, None)


def test_the_time_to_the_target_survives_an_interruption(
    tiny: Tiny, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, [0.7], final=0.8)
    with monkeypatch.context() as patch:
        at_call(patch, validation, "finish", 1, die)
        with pytest.raises(Killed):
            train.train(tiny("target=0.7"), world)
    reached = last_state(tiny())["target_reached"]
    summary = train.train(tiny("target=0.7"), world)
    assert summary["time_to_robust_accuracy_seconds"] == reached
    assert summary["epochs"] == 1
    assert len(losses(tiny())) == 3


def test_the_monitor_looks_as_often_as_asked(tiny: Tiny, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(validation, "_monitor", lambda run: asked.append(run.course.epoch))
    train.train(tiny("epochs=5", "evaluation.every=2"), world)
    assert asked == [2, 4]
