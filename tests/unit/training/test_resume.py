"""A run that is resumed: it ends as it would have, loses nothing, and refuses what is not its own."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from hpcfast.config import RunConfig
from hpcfast.data.order import train_order
from hpcfast.distributed.comm import World
from hpcfast.errors import UserError
from hpcfast.runs.failures import History
from hpcfast.training import checkpoint, loop, train
from hpcfast.training.state import Run
from hpcfast.training.step import Learner
from tests.unit.whole_runs import (
    Killed,
    assert_equal_ends,
    at_call,
    die,
    different,
    last_state,
    log,
    logged,
    losses,
    save_checkpoint,
    weights,
)

Tiny = Callable[..., RunConfig]


@pytest.mark.parametrize("asynchronous", ["true", "false"])
def test_checkpoints_may_come_within_an_epoch_and_change_nothing(
    asynchronous: str, plain: RunConfig, tiny: Tiny, world: World
) -> None:
    config = tiny(f"checkpoint={{minutes: 1.0e-9, asynchronous: {asynchronous}, keep: 3}}")
    train.train(config, world)
    saved = {event["step"] for event in log(config) if event["key"] == "checkpoint_start"}
    assert saved == {0, 2, 3, 5, 6, 8, 9}, "a vote is counted one step later"
    assert len(list((config.folder / "checkpoints").glob("step-*.pt"))) == 3
    assert {event["step"] for event in log(plain) if event["key"] == "checkpoint_start"} == {0, 3, 6, 9}
    assert_equal_ends(config, plain)


def test_dropout_goes_on_as_if_nothing_had_happened(tiny: Tiny, world: World) -> None:
    changes = [
        "model={name: test_resnet, options: {drop_rate: 0.5}}",
        "data.size=32",
        "epochs=1",
        "attack.name=standard",
    ]
    changes += ["evaluation.every=0", "evaluation.final.images=3"]
    straight, broken = tiny("name=straight", *changes), tiny("name=broken", *changes, "checkpoint.minutes=1.0e-9")
    train.train(straight, world)
    with pytest.MonkeyPatch.context() as patch:
        at_call(patch, checkpoint, "write", 3, die)
        with pytest.raises(Killed):
            train.train(broken, world)
    torch.rand(3)  # a process that starts anew is elsewhere in torch's random numbers
    train.train(broken, world)
    assert losses(broken) == losses(straight)
    assert not different(weights(broken), weights(straight))


def interrupted(config: RunConfig, world: World, call: int = 8) -> Path:
    """Checkpoints of a run that was killed in its ``call``-th step."""
    with pytest.MonkeyPatch.context() as patch:
        at_call(patch, Learner, "step", call, die)
        with pytest.raises(Killed):
            train.train(config, world)
    return config.folder / "checkpoints"


def test_a_run_that_fails_often_is_saved_more_often(
    tiny: Tiny, world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(History, "checkpoint", 1.0)
    config = tiny("checkpoint.minutes=auto")
    for _ in range(3):
        interrupted(config, world, call=2)
    found = [event["value"] for event in log(config) if event["key"] == "save_interval"]
    assert [value["mean_time"] for value in found] == pytest.approx([86400, 43200, 28800], rel=1e-2)
    assert [round(value["seconds"] / found[0]["seconds"], 2) for value in found] == [1.0, 0.71, 0.58]
    assert "checkpoint.minutes=auto: now one every 6.92 minutes, as one takes 1 s" in capsys.readouterr().out


def test_no_epoch_is_trained_twice_after_its_checkpoint(
    tiny: Tiny, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupted(tiny(), world)
    capsys.readouterr()
    train.train(tiny(), world)
    assert "after epoch 2/3" in capsys.readouterr().out
    starts = [event["epoch"] for event in log(tiny()) if event["key"] == "epoch_start"]
    assert starts == [0, 1, 2, 2]
    assert len(logged(tiny(), "clean_accuracy")) == 3, "an epoch that passed its checks is not checked again"


def test_clocks_and_images_go_on_after_an_interruption(tiny: Tiny, world: World) -> None:
    interrupted(tiny(), world)
    before = last_state(tiny())
    summary = train.train(tiny(), world)
    assert summary["train_seconds"] > before["trained_seconds"][0] > 0
    assert summary["train_images_per_second"] == pytest.approx(72 / summary["train_seconds"])
    assert summary["wall_seconds"] >= log(tiny())[-3]["time"] - log(tiny())[0]["time"] > 0


def test_a_finished_run_says_so_and_trains_nothing(
    tiny: Tiny, world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = train.train(tiny("epochs=1"), world)
    before = (tiny().folder / "events.jsonl").read_bytes()
    capsys.readouterr()
    monkeypatch.setattr(Run, "__init__", lambda *_: pytest.fail("a run was made"))
    again = train.train(tiny("epochs=1"), world)
    assert json.dumps(again) == json.dumps(first)
    assert "is finished already" in capsys.readouterr().out
    assert (tiny().folder / "events.jsonl").read_bytes() == before


def test_another_configuration_is_refused_unless_it_is_to_be_overwritten(tiny: Tiny, world: World) -> None:
    train.train(tiny("epochs=1"), world)
    with pytest.raises(UserError, match="another configuration"):
        train.train(tiny("epochs=2"), world)
    summary = train.train(tiny("epochs=2"), world, overwrite=True)
    assert summary["epochs"] == 2
    assert [event["key"] for event in log(tiny())].count("run_start") == 1


def test_another_number_of_ranks_goes_on_and_is_told(
    tiny: Tiny, world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two ranks have trained on 16 images of the second epoch; one rank takes the other 8, in one step."""
    folder = interrupted(tiny(), world, call=4)
    state = last_state(tiny())
    position = {**state["position"], "offset": 16, "step": 4, "images": 40}
    save_checkpoint(folder, 4, {**state, "position": position, "unexamined": False, "world_size": 2})
    read: list[int] = []
    monkeypatch.setattr(loop.Loop, "_look_at", lambda self, loss, lr, batches: read.extend(batches[0].ids.tolist()))
    capsys.readouterr()
    summary = train.train(tiny(), world)
    assert "now on 1 ranks instead of 2" in capsys.readouterr().out
    order = train_order(24, tiny().seed, 1, 1, 8)
    assert read[:8] == order[16:].tolist()
    assert sorted(read[8:]) == list(range(24))
    assert summary["epochs"] == 3


def test_another_models_checkpoint_is_refused(tiny: Tiny, world: World) -> None:
    folder = interrupted(tiny(), world)
    state = last_state(tiny())
    other = tiny("model.options.width=3").model.build(3).state_dict()
    save_checkpoint(folder, 6, {**state, "learner": {**state["learner"], "model": other}})
    with pytest.raises(UserError, match="holds the weights of another model: net"):
        train.train(tiny(), world)


def test_a_damaged_checkpoint_is_named_and_the_one_before_taken(
    plain: RunConfig, tiny: Tiny, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = interrupted(tiny(), world)
    (folder / (folder / "LAST").read_text()).write_bytes(b"")
    capsys.readouterr()
    train.train(tiny(), world)
    assert "step-00000006.pt cannot be read" in (out := capsys.readouterr().out)
    assert "going on with step-00000003.pt instead" in out
    assert_equal_ends(tiny(), plain)


def test_without_a_good_checkpoint_the_run_is_not_begun_anew_by_itself(tiny: Tiny, world: World) -> None:
    folder = interrupted(tiny(), world)
    for file in folder.glob("step-*.pt"):
        file.write_bytes(b"")
    with pytest.raises(UserError, match="start over with --overwrite"):
        train.train(tiny(), world)
