"""Between epochs: a collapse is undone, a target ends the training."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hpcfast import checkpoint, checks, loop, train
from hpcfast.comm import World
from hpcfast.config import RunConfig
from hpcfast.evaluate import evaluate
from hpcfast.guard import Health
from tests.unit.runs import Killed, at_call, die, different, last_state, logged, losses, weights

Tiny = Callable[..., RunConfig]
COLLAPSED, WELL = Health(0.9, 0.2, 0.1), Health(0.5, 0.45, 0.9)
GUARD = "guard={every: 1, images: 6, attack: {name: pgd, steps: 1}, ladder: [{name: nfgsm}, {name: pgd, steps: 2}]}"


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Call it with what the guard will find, in order."""

    def script(*found: Health) -> None:
        left: Iterator[Health] = iter(found)
        monkeypatch.setattr(checks, "examine", lambda *_: next(left))

    return script


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str, dict[str, Any]]]:
    """Where each stretch of training began: step, attack, weights."""
    found = []
    original = loop.Loop.train

    def noted(self: loop.Loop) -> None:
        state = {name: tensor.clone() for name, tensor in self.run.learner.model.state_dict().items()}
        found.append((self.run.position.step, self.run.guard.attack.name, state))
        original(self)

    monkeypatch.setattr(loop.Loop, "train", noted)
    return found


def images_seen(summary: dict[str, Any]) -> float:
    return float(summary["train_images_per_second"] * summary["train_seconds"])


def test_a_healthy_run_is_examined_and_left_alone(tiny: Tiny, world: World, said: Callable[..., None]) -> None:
    said(WELL, WELL, WELL)
    summary = train.train(tiny(GUARD), world)
    assert logged(tiny(), "guard") == 3 * [{"seen": 0.5, "strong": 0.45, "alignment": 0.9}]
    assert logged(tiny(), "rollback") == []
    assert summary["catastrophic_overfitting"] == {"collapses": [], "attack": tiny().attack.model_dump()}
    assert images_seen(summary) == pytest.approx(72)


def test_a_collapse_is_undone_and_training_goes_on_with_another_attack(
    tiny: Tiny,
    world: World,
    said: Callable[..., None],
    begun: list[tuple[int, str, dict[str, Any]]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    said(WELL, COLLAPSED, WELL, WELL)
    config = tiny(GUARD, "ema=0.9")
    summary = train.train(config, world)
    assert [(step, attack) for step, attack, _ in begun] == [(0, "fgsm"), (3, "fgsm"), (3, "nfgsm"), (6, "nfgsm")]
    assert not different(begun[1][2], begun[2][2]), "it goes back to the very weights of the last healthy epoch"
    (event,) = logged(config, "rollback")
    assert (event["from_step"], event["to_step"], event["attack"]["name"]) == (6, 3, "nfgsm")
    (entry,) = summary["catastrophic_overfitting"]["collapses"]
    assert (entry["epoch"], entry["seen"], entry["strong"]) == (2, 0.9, 0.2)
    assert (entry["attack"]["name"], entry["answer"]["name"]) == ("fgsm", "nfgsm")
    assert summary["catastrophic_overfitting"]["attack"]["name"] == "nfgsm"
    assert images_seen(summary) == pytest.approx(4 * 24), "work that was undone was work"
    assert summary["epochs"] == 3
    out = capsys.readouterr().out
    assert "collapse after epoch 2: accuracy 0.90 under fgsm, 0.20 under pgd; back to epoch 1, on with nfgsm" in out
    assert logged(config, "eval_start") == [*3 * ["monitor"], "final"], "a collapsed epoch needs no monitor"


def test_a_collapse_in_the_first_epoch_goes_back_to_the_beginning(
    tiny: Tiny, world: World, said: Callable[..., None], begun: list[tuple[int, str, dict[str, Any]]]
) -> None:
    said(COLLAPSED, COLLAPSED, WELL, WELL, WELL)
    summary = train.train(tiny(GUARD), world)
    starts = [(step, attack) for step, attack, _ in begun]
    assert starts == [(0, "fgsm"), (0, "nfgsm"), (0, "pgd"), (3, "pgd"), (6, "pgd")]
    assert not different(begun[0][2], begun[1][2])
    assert not different(begun[0][2], begun[2][2])
    assert images_seen(summary) == pytest.approx(5 * 24)


def test_a_run_that_was_rolled_back_at_once_is_that_of_the_other_attack(
    tiny: Tiny, world: World, said: Callable[..., None]
) -> None:
    said(COLLAPSED, *6 * [WELL])
    train.train(tiny("name=back", GUARD), world)
    straight = tiny("name=straight", "attack={name: nfgsm}", "guard.every=0")
    train.train(straight, world)
    assert not different(weights(tiny("name=back")), weights(straight))


def test_after_the_last_rung_training_goes_on_as_it_is(
    tiny: Tiny, world: World, said: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    said(COLLAPSED, COLLAPSED, COLLAPSED, WELL, COLLAPSED)
    summary = train.train(tiny(GUARD), world)
    history = summary["catastrophic_overfitting"]["collapses"]
    answers = [(entry["epoch"], entry["answer"] and entry["answer"]["name"]) for entry in history]
    assert answers == [(1, "nfgsm"), (1, "pgd"), (1, None), (3, None)]
    assert summary["epochs"] == 3
    assert len(logged(tiny(), "rollback")) == 2
    assert capsys.readouterr().out.count("guard.ladder has no other attack, so training goes on as it is") == 2
    assert checkpoint.load_healthy(tiny().folder / "checkpoints")["position"]["epoch"] == 2


def test_it_goes_back_to_a_checkpoint_that_was_examined(
    tiny: Tiny, world: World, said: Callable[..., None], begun: list[tuple[int, str, dict[str, Any]]]
) -> None:
    """With every: 2 an odd epoch is not looked at, and may have collapsed already."""
    said(WELL, COLLAPSED, WELL)
    train.train(tiny(GUARD, "guard.every=2", "epochs=4"), world)
    assert next(step for step, attack, _ in begun if attack == "nfgsm") == 6


def test_a_collapse_is_really_found_and_answered(tiny: Tiny, world: World) -> None:
    """A training attack that is none, and a guard that attacks: nothing here is scripted."""
    changes = ["guard.attack={name: pgd, steps: 5}", "guard.limit=0.3", "guard.images=24", "threat.eps=4"]
    config = tiny(GUARD, "attack={name: fgsm, alpha: 1.0e-6, start: zero}", "guard.ladder=[{name: pgd, steps: 2}]",
                  "optim.lr=0.1", "model.options.width=4", "epochs=8", "evaluation.every=0", *changes)  # fmt: skip
    summary = train.train(config, world)
    (entry,) = summary["catastrophic_overfitting"]["collapses"]
    assert entry["seen"] - entry["strong"] > 0.3
    assert summary["catastrophic_overfitting"]["attack"]["name"] == "pgd"
    assert images_seen(summary) > 8 * 24


@pytest.mark.parametrize(
    ("point", "call"), [("load_healthy", 1), *[(f, call) for f in ("_save", "mark_healthy") for call in (2, 3)]]
)
def test_a_run_killed_around_a_rollback_ends_as_one_that_was_not(
    point: str, call: int, tiny: Tiny, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def examine(model: Any, split: Any, config: RunConfig, attack: Any, *_: Any) -> Health:
        return COLLAPSED if attack.name == "fgsm" else WELL

    monkeypatch.setattr(checks, "examine", examine)
    straight, broken = tiny("name=straight", GUARD), tiny("name=broken", GUARD)
    expected = train.train(straight, world)
    with monkeypatch.context() as patch:
        at_call(patch, checkpoint, point, call, die)
        with pytest.raises(Killed):
            train.train(broken, world)
    found = train.train(broken, world)
    assert not different(weights(broken), weights(straight))
    assert found["catastrophic_overfitting"] == expected["catastrophic_overfitting"]
    assert losses(broken) == losses(straight)


def scripted(monkeypatch: pytest.MonkeyPatch, monitor: list[float], final: float) -> None:
    """Let evaluations find these robust accuracies."""
    at_epochs, at_the_end, left = checks.evaluate, checks.evaluate_kept, iter(monitor)

    def monitored(*args: Any) -> dict[str, Any]:
        return {**at_epochs(*args), "robust_accuracy": next(left)}

    def finished(*args: Any) -> tuple[dict[str, Any], Any]:
        result, place = at_the_end(*args)
        return {**result, "robust_accuracy": final}, place

    monkeypatch.setattr(checks, "evaluate", monitored)
    monkeypatch.setattr(checks, "evaluate_kept", finished)


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
    monkeypatch.setattr(checks, "evaluate", lambda *args: {**evaluate(*args), "robust_accuracy": 0.3})
    weak, strong = "{attack: {name: natural}}", "{attack: {name: pgd, steps: 9}, images: 9}"
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
        at_call(patch, checks, "evaluate_kept", 3, die)
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
        at_call(patch, checks, "finish", 1, die)
        with pytest.raises(Killed):
            train.train(tiny("target=0.7"), world)
    reached = last_state(tiny())["target_reached"]
    summary = train.train(tiny("target=0.7"), world)
    assert summary["time_to_robust_accuracy_seconds"] == reached
    assert summary["epochs"] == 1
    assert len(losses(tiny())) == 3


def test_the_monitor_looks_as_often_as_asked(tiny: Tiny, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(checks, "_monitor", lambda run: asked.append(run.position.epoch))
    train.train(tiny("epochs=5", "evaluation.every=2"), world)
    assert asked == [2, 4]
