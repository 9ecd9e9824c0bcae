"""A run that is killed or asked to stop, anywhere, ends bit for bit as one that was not."""

import json
import shutil
import sys
from collections.abc import Callable

import pytest

from hpcfast import cli
from hpcfast.config import RunConfig
from hpcfast.distributed.comm import World
from hpcfast.evaluation.outcomes import Journal
from hpcfast.models import saved
from hpcfast.runs.signals import EXIT_STOPPED, Stopped
from hpcfast.training import checkpoint, train, validation
from hpcfast.training.guard import Guard
from hpcfast.training.step import Learner
from tests.unit.whole_runs import (
    Killed,
    assert_equal_ends,
    at_call,
    die,
    last_state,
    log,
    logged,
    losses,
    terminate,
)

Tiny = Callable[..., RunConfig]
# All that has state: an average, averaged BatchNorm, augmentation, phases whose ends are not those of epochs, a guard
# that goes back once (its first attack is none), checkpoints after every step, written by a thread.
BUSY = [
    "epochs=null",
    "phases=[{steps: 4, size: 8, batch_size: 8}, {images: 40, size: 10, batch_size: 6}]",
    "data.augment=pad_crop_flip",
    "ema=0.9",
    "attack={name: fgsm_rs, start: zero, alpha: 1.0e-6}",
    "guard={every: 1, images: 6, limit: 0.01, attack: {name: pgd, steps: 2}, ladder: [{name: pgd, steps: 2}]}",
    "threat.eps=2",
    "evaluation.every=2",
    "checkpoint={minutes: 1.0e-9, asynchronous: true}",
]


@pytest.fixture(scope="session")
def whole(elsewhere: Tiny, world: World) -> RunConfig:
    """A busy run that nothing interrupted; don't change its folder."""
    config = elsewhere("name=whole", *BUSY)
    train.train(config, world)
    return config


def test_the_busy_run_does_what_it_is_for(whole: RunConfig) -> None:
    assert len(logged(whole, "rollback")) == 1
    (entry,) = json.loads((whole.folder / "summary.json").read_text())["catastrophic_overfitting"]["collapses"]
    assert (entry["attack"]["name"], entry["answer"]["name"]) == ("fgsm_rs", "pgd")
    saved = {event["step"] for event in log(whole) if event["key"] == "checkpoint_start"}
    assert len(saved) >= 8
    assert max(losses(whole)) == 4 + 7


STOPS = [  # what is called, how often before it happens, what the run is doing then
    pytest.param(Learner, "step", 1, id="in the first step"),
    pytest.param(Learner, "step", 3, id="in the last step of an epoch"),
    pytest.param(Learner, "step", 5, id="after the rollback"),
    pytest.param(Learner, "step", 7, id="in the last step of a phase"),
    pytest.param(Learner, "step", 8, id="in the first step of a phase"),
    pytest.param(Learner, "step", 14, id="in the last step of all"),
    pytest.param(Guard, "_sums", 1, id="in an examination that finds a collapse"),
    pytest.param(Guard, "_sums", 3, id="in a later examination"),
    pytest.param(checkpoint, "load_healthy", 1, id="in a rollback"),
    pytest.param(validation, "evaluate", 1, id="in a monitoring evaluation"),
    pytest.param(checkpoint, "write", 1, id="in the first checkpoint"),
    pytest.param(checkpoint, "write", 5, id="in a checkpoint of a step"),
    pytest.param(checkpoint, "mark_healthy", 3, id="when an epoch has been found healthy"),
    pytest.param(validation, "finish", 1, id="before the final evaluation"),
]

ALIKE = {
    "in the first step",
    "in the last step of a phase",
    "in the last step of all",
    "in a later examination",
    "in the first checkpoint",
}


@pytest.mark.parametrize(
    ("target", "name", "call"),
    [
        # Between checkpoints of every step all steps are alike, and so are examinations.
        *(point for point in STOPS if point.id not in ALIKE),
        pytest.param(checkpoint, "save_text", 4, id="between a checkpoint and LAST"),
        pytest.param(Journal, "write", 2, id="in the final evaluation"),
        pytest.param(saved, "write", 1, id="before the export"),
        pytest.param(saved, "save_weights", 1, id="in the export"),
    ],
)
def test_a_killed_run_ends_as_one_that_was_not(
    whole: RunConfig, tiny: Tiny, world: World, target: object, name: str, call: int
) -> None:
    broken = tiny(*BUSY)
    with pytest.MonkeyPatch.context() as patch:
        at_call(patch, target, name, call, die)
        with pytest.raises(Killed):
            train.train(broken, world)
    assert not (broken.folder / "summary.json").exists()
    train.train(broken, world)
    assert_equal_ends(broken, whole)


def stopped(config: RunConfig, world: World, target: object, name: str, call: int) -> str:
    """Train until the signal comes at this call; what the run says then."""
    with pytest.MonkeyPatch.context() as patch:
        at_call(patch, target, name, call, terminate)
        with pytest.raises(Stopped) as caught:
            train.train(config, world)
    return str(caught.value)


@pytest.mark.parametrize(("target", "name", "call"), STOPS)
def test_a_run_that_is_asked_to_stop_saves_and_goes_on(
    whole: RunConfig, tiny: Tiny, world: World, target: object, name: str, call: int
) -> None:
    broken = tiny(*BUSY)
    message = stopped(broken, world, target, name, call)
    assert not (broken.folder / "summary.json").exists()
    position = last_state(broken)["position"]
    assert f"stopped at step {position['step']}; the same command goes on from there" in message
    assert logged(broken, "run_interrupted") == ["SIGTERM"]
    done = max(losses(broken), default=0)
    train.train(broken, world)
    assert_equal_ends(broken, whole)
    again = [event["step"] for event in log(broken) if event["key"] == "train_loss"]
    assert again.count(done) <= 2, "once, and once more if the rollback undid it"


def test_no_step_is_lost_by_a_stop(plain: RunConfig, tiny: Tiny, world: World) -> None:
    config = tiny()
    stopped(config, world, Learner, "step", 5)
    step = last_state(config)["position"]["step"]
    assert step in (5, 6), "the step it came in, or the one until which ranks take to agree"
    train.train(config, world)
    assert [event["step"] for event in log(config) if event["key"] == "train_loss"] == list(range(1, 10))
    assert_equal_ends(config, plain)


def test_a_signal_during_the_export_comes_too_late(plain: RunConfig, tiny: Tiny, world: World) -> None:
    with pytest.MonkeyPatch.context() as patch:
        at_call(patch, saved, "write", 1, terminate)
        summary = train.train(tiny(), world)
    assert summary["status"] == "finished"
    assert_equal_ends(tiny(), plain)


@pytest.mark.parametrize("call", [1, 2, 3])
def test_a_stop_during_the_final_evaluation_repeats_only_that(
    plain: RunConfig, tiny: Tiny, world: World, call: int
) -> None:
    config = tiny()
    with pytest.MonkeyPatch.context() as patch:
        at_call(patch, Journal, "write", call, terminate)  # only the last evaluation keeps a journal
        with pytest.raises(Stopped):
            train.train(config, world)
    train.train(config, world)
    assert [event["step"] for event in log(config) if event["key"] == "train_loss"] == list(range(1, 10))
    assert_equal_ends(config, plain)


def test_the_command_exits_with_75_and_then_with_0(
    tiny: Tiny, world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny()
    command = ["hpcfast", "train", str(config.runs.parent / "tiny.yaml"), f"data.path={config.data.path}"]
    monkeypatch.setattr(sys, "argv", [*command, f"runs={config.runs}"])
    codes = []
    for call in (4, 0):
        with pytest.MonkeyPatch.context() as patch:
            at_call(patch, Learner, "step", call, terminate)
            with pytest.raises(SystemExit) as caught:
                cli.main()
        codes.append(caught.value.code or 0)
        assert ("stopped at step" in capsys.readouterr().err) == (call == 4)
    assert codes == [EXIT_STOPPED, 0]


def test_a_run_may_be_stopped_again_and_again(plain: RunConfig, tiny: Tiny, world: World) -> None:
    config, stops = tiny(), 0
    while not (config.folder / "summary.json").exists():
        with pytest.MonkeyPatch.context() as patch:
            at_call(patch, Learner, "step", 1, terminate)
            try:
                train.train(config, world)
            except Stopped:
                stops += 1
        assert stops < 20
    assert 3 <= stops <= 9
    assert_equal_ends(config, plain)


def test_each_kept_checkpoint_leads_to_the_same_end(
    whole: RunConfig, tiny: Tiny, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also if the newer ones, LAST among them, were lost."""
    config = tiny(*BUSY, "checkpoint.keep=50")
    train.train(config, world)
    files = sorted((config.folder / "checkpoints").glob("step-*.pt"))
    assert len(files) >= 6
    finished = config.folder.with_name("finished")
    config.folder.rename(finished)
    for kept in files[-2:1:-4]:
        shutil.copytree(finished, config.folder)
        (config.folder / "summary.json").unlink()
        for file in (config.folder / "checkpoints").glob("step-*.pt"):
            if file.name > kept.name:
                file.unlink()
        train.train(config, world)
        assert_equal_ends(config, whole)
        assert f"going on with {kept.name} instead" in capsys.readouterr().out
        shutil.rmtree(config.folder)
