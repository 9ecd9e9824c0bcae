"""A loss that is no number: the run ends, names its images, and its checkpoint stays good."""

import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from hpcfast import cli
from hpcfast.config import RunConfig
from hpcfast.data import Batch, feed
from hpcfast.data.dataset import hold_out
from hpcfast.data.reader import read_splits
from hpcfast.distributed import status
from hpcfast.distributed.comm import World
from hpcfast.errors import UserError
from hpcfast.runs.check import check
from hpcfast.runs.directory import RunDirectory
from hpcfast.runs.events import read
from hpcfast.training import checkpoint, loop, train
from hpcfast.training.step import Learner
from tests.unit.whole_runs import different, last_state, logged, losses, weights

Tiny = Callable[..., RunConfig]


def poison(patch: pytest.MonkeyPatch, number: int) -> list[int]:
    """Let all images of the ``number``-th training batch (from 1) be no numbers; the ids of that batch."""
    original, seen, ids = feed.batches, [0], []

    def poisoned(*args: Any) -> Iterator[Batch]:
        for batch in original(*args):
            seen[0] += args[-1] is not None  # evaluation has no augmentation's key
            if args[-1] is not None and seen[0] == number:
                ids.extend(batch.ids.tolist())
                yield batch._replace(x=batch.x * torch.nan)
            else:
                yield batch

    patch.setattr(feed, "batches", poisoned)
    return ids


def strictly(text: str) -> Any:
    """Parse what is JSON by its standard, which knows no NaN."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("number", [1, 2, 3, 5, 9], ids=lambda n: f"batch {n} of 9")
def test_a_poisoned_batch_ends_the_run_and_names_its_images(
    number: int, tiny: Tiny, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny("checkpoint.minutes=1.0e-9")
    run = RunDirectory(config.folder)
    with monkeypatch.context() as patch:
        ids = poison(patch, number)
        with pytest.raises(UserError) as caught:
            train.train(config, world)
    message = str(caught.value)
    path = run.failures / f"step-{number - 1:08d}-rank-0.json"
    for part in (f"the loss is nan at step {number - 1} ", "on rank 0", str(path), "its 8 images", "optim.lr (now "):
        assert part in message
    about = json.loads(path.read_text())
    assert (about["step"], about["rank"], about["epoch"]) == (number - 1, 0, pytest.approx((number - 1) / 3))
    files = hold_out(read_splits(config.data.path)[0], 6)[0].files
    assert about["files"] == [files[i] for i in ids]
    state = last_state(config)
    assert state["position"]["step"] <= number - 1
    assert all(torch.isfinite(tensor).all() for tensor in state["learner"]["model"].values())
    assert not run.summary.exists()


def test_after_a_failure_the_same_command_goes_on_to_the_same_end(
    plain: RunConfig, tiny: Tiny, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tiny()
    with monkeypatch.context() as patch:
        poison(patch, 5)
        with pytest.raises(UserError, match="diverged"):
            train.train(broken, world)
    train.train(broken, world)
    assert not different(weights(broken), weights(plain))
    assert [value for step, value in losses(broken).items() if step > 6] == [
        value for step, value in losses(plain).items() if step > 6
    ]


def test_the_log_says_why_the_run_ended(tiny: Tiny, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        poison(patch, 5)
        with pytest.raises(UserError, match="diverged"):
            train.train(tiny(), world)
    (end,) = logged(tiny(), "run_aborted")
    assert end["why"].startswith("training has diverged: the loss is nan at step 4 ")
    assert 0 <= end["waited"] < 60
    train.train(tiny(), world)
    assert check(tiny().folder), "a log with such an end is sound"


def test_a_run_that_the_watchdog_ends_says_so_in_its_log(tiny: Tiny, world: World) -> None:
    train.train(tiny("name=silent"), world)
    assert status._last_words is not None
    status._last_words()
    last = read(tiny("name=silent").folder / "events.jsonl")[-1]
    assert (last["key"], last["value"]["why"]) == ("run_aborted", "a rank has fallen silent")


def test_the_log_knows_when_the_job_began(tiny: Tiny, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPCFAST_JOB_STARTED", "1796000000.5")
    train.train(tiny("name=job"), world)
    assert read(tiny("name=job").folder / "events.jsonl")[0]["value"] == {"job_started": 1796000000.5}


def test_times_in_the_log_do_not_follow_a_clock_that_is_set_anew(
    tiny: Tiny, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, steps, real = Learner.step, itertools.count(1), time.time

    def step(self: Learner, *given: Any) -> Any:
        if next(steps) == 3:
            monkeypatch.setattr(time, "time", lambda: real() + 3600)
        return original(self, *given)

    monkeypatch.setattr(Learner, "step", step)
    train.train(tiny("name=jump"), world)
    times = [event["time"] for event in read(tiny("name=jump").folder / "events.jsonl")]
    assert times == sorted(times)
    assert times[-1] - times[0] < 3000


def test_what_is_written_about_a_failure_is_json(tiny: Tiny, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    poison(monkeypatch, 2)
    with pytest.raises(UserError, match="diverged"):
        train.train(tiny(), world)
    strictly((tiny().folder / "failures" / "step-00000001-rank-0.json").read_text())
    for line in (tiny().folder / "events.jsonl").read_text().splitlines():
        strictly(line)


def test_the_command_exits_with_2_and_one_message(
    tiny: Tiny, world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny()
    path = config.runs.parent / "tiny.yaml"
    poison(monkeypatch, 2)
    given = [f"data.path={config.data.path}", f"runs={config.runs}"]
    monkeypatch.setattr(sys, "argv", ["hpcfast", "train", str(path), *given])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith("error: training has diverged: the loss is nan at step 1 ")
    assert err.count("\n") == 1


def test_half_precision_skips_a_bad_batch(tiny: Tiny, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """With loss scaling one overflow is nothing unusual: only many in a row are a fault."""
    config = tiny("precision=fp16", "attack={name: standard}", "epochs=2", "evaluation.every=0")
    original, calls = Learner._criterion, itertools.count(1)
    monkeypatch.setattr(
        Learner, "_criterion", lambda self, *given: original(self, *given) * (torch.inf if next(calls) == 2 else 1)
    )
    train.train(config, world)
    assert logged(config, "skipped_steps") == [0, 1, 1, 1, 1, 1]
    assert last_state(config)["position"]["step"] == 6
    assert all(torch.isfinite(tensor).all() for tensor in weights(config).values())


def test_weights_that_are_no_numbers_are_never_saved(tiny: Tiny, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if every loss was finite."""
    original = loop.Loop.train

    def spoilt(self: loop.Loop) -> None:
        original_save = self.run.save
        if self.run.course.epoch == 1:

            def save() -> None:
                with torch.no_grad():
                    next(self.run.learner.model.parameters())[0] = torch.inf
                original_save()

            monkeypatch.setattr(self.run, "save", save)
        original(self)

    monkeypatch.setattr(loop.Loop, "train", spoilt)
    with pytest.raises(UserError, match=r"at step 6 weights are no longer finite\. Lower optim\.lr \(now 0\.05\)"):
        train.train(tiny(), world)
    state = checkpoint.load_last(tiny().folder / "checkpoints")
    assert state is not None
    assert state["position"]["step"] == 3
