"""Between epochs: a collapse is undone."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hpcfast.config import RunConfig
from hpcfast.distributed.comm import World
from hpcfast.training import checkpoint, loop, train
from hpcfast.training.guard import Guard, Health
from tests.conftest import write_images
from tests.unit.whole_runs import Killed, assert_equal_ends, at_call, die, different, logged, weights

Tiny = Callable[..., RunConfig]
COLLAPSED, WELL = Health(0.9, 0.2, 0.1), Health(0.5, 0.45, 0.9)
GUARD = "guard={every: 1, images: 6, attack: {name: pgd, steps: 1}, ladder: [{name: nfgsm}, {name: pgd, steps: 2}]}"


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Call it with what the guard will find, in order."""

    def script(*found: Health) -> None:
        left: Iterator[Health] = iter(found)
        monkeypatch.setattr(Guard, "examine", lambda *_: next(left))

    return script


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str, dict[str, Any]]]:
    """Where each stretch of training began: step, attack, weights."""
    found = []
    original = loop.Loop.train

    def noted(self: loop.Loop) -> None:
        state = {name: tensor.clone() for name, tensor in self.run.learner.model.state_dict().items()}
        found.append((self.run.course.step, self.run.guard.attack.name, state))
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
    assert [(step, attack) for step, attack, _ in begun] == [(0, "fgsm_rs"), (3, "fgsm_rs"), (3, "nfgsm"), (6, "nfgsm")]
    assert not different(begun[1][2], begun[2][2]), "it goes back to the very weights of the last healthy epoch"
    (event,) = logged(config, "rollback")
    assert (event["from_step"], event["to_step"], event["attack"]["name"]) == (6, 3, "nfgsm")
    (entry,) = summary["catastrophic_overfitting"]["collapses"]
    assert (entry["epoch"], entry["seen"], entry["strong"]) == (2, 0.9, 0.2)
    assert (entry["attack"]["name"], entry["answer"]["name"]) == ("fgsm_rs", "nfgsm")
    assert summary["catastrophic_overfitting"]["attack"]["name"] == "nfgsm"
    assert images_seen(summary) == pytest.approx(4 * 24), "work that was undone was work"
    assert summary["epochs"] == 3
    out = capsys.readouterr().out
    assert "collapse after epoch 2: accuracy 0.90 under fgsm_rs, 0.20 under pgd; back to epoch 1, on with nfgsm" in out
    assert logged(config, "eval_start") == [*3 * ["monitor"], "final"], "a collapsed epoch needs no monitor"


def test_a_collapse_in_the_first_epoch_goes_back_to_the_beginning(
    tiny: Tiny, world: World, said: Callable[..., None], begun: list[tuple[int, str, dict[str, Any]]]
) -> None:
    said(COLLAPSED, COLLAPSED, WELL, WELL, WELL)
    summary = train.train(tiny(GUARD), world)
    starts = [(step, attack) for step, attack, _ in begun]
    assert starts == [(0, "fgsm_rs"), (0, "nfgsm"), (0, "pgd"), (3, "pgd"), (6, "pgd")]
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


def test_a_collapse_is_really_found_and_answered(tmp_path: Path, tiny: Tiny, world: World) -> None:
    """A training attack that is none, and a guard that attacks: nothing here is scripted."""
    root = write_images(tmp_path / "data", {"train": 16, "val": 4}, classes=3)
    changes = ["guard.attack={name: pgd, steps: 5}", "guard.limit=0.3", "guard.images=24", "threat.eps=4"]
    changes += [f"data.path={root}", "data.held_out=24"]
    config = tiny(GUARD, "attack={name: fgsm_rs, alpha: 1.0e-6, start: zero}", "guard.ladder=[{name: pgd, steps: 2}]",
                  "optim.lr=0.1", "model.options.width=4", "epochs=8", "evaluation.every=0", *changes)  # fmt: skip
    summary = train.train(config, world)
    (entry,) = summary["catastrophic_overfitting"]["collapses"]
    assert entry["seen"] - entry["strong"] > 0.3
    assert summary["catastrophic_overfitting"]["attack"]["name"] == "pgd"
    assert images_seen(summary) > 8 * 24


def examine(guard: Guard, *_: Any) -> Health:
    return COLLAPSED if guard.attack.name == "fgsm_rs" else WELL


@pytest.fixture(scope="session")
def straight(elsewhere: Tiny, world: World) -> RunConfig:
    """A run that was rolled back and that nothing interrupted."""
    config = elsewhere("name=straight", GUARD)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Guard, "examine", examine)
        train.train(config, world)
    return config


@pytest.mark.parametrize(
    ("point", "call"), [("load_healthy", 1), *[(f, call) for f in ("write", "mark_healthy") for call in (2, 3)]]
)
def test_a_run_killed_around_a_rollback_ends_as_one_that_was_not(
    point: str, call: int, straight: RunConfig, tiny: Tiny, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Guard, "examine", examine)
    broken = tiny(GUARD)
    with monkeypatch.context() as patch:
        at_call(patch, checkpoint, point, call, die)
        with pytest.raises(Killed):
            train.train(broken, world)
    train.train(broken, world)
    assert_equal_ends(broken, straight)
