"""A run that was interrupted ends bit for bit as one that was not."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hpcfast import checkpoint, events, train
from hpcfast.attacks.fgsm import Fgsm
from hpcfast.comm import World
from hpcfast.config import RunConfig, load
from hpcfast.errors import UserError
from tests.conftest import RUN

Tiny = Callable[..., RunConfig]
AUGMENTED = ["data.augment=pad_crop_flip", "evaluation.every=2"]


class Killed(BaseException):
    """What ends the process in the middle."""


def kill_at(patch: pytest.MonkeyPatch, target: object, name: str, call: int) -> None:
    """Let the ``call``-th call of ``target.name`` (from 1) raise."""
    original, calls = getattr(target, name), [0]

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        if calls[0] == call:
            raise Killed
        return original(*args, **kwargs)

    patch.setattr(target, name, wrapped)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, images: Path, world: World) -> RunConfig:
    """A run that nothing interrupted; don't change its folder."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "whole.yaml").write_text(RUN)
    config = load(folder / "whole.yaml", [f"data.path={images}", f"runs={folder}", *AUGMENTED])
    train.train(config, world)
    return config


def weights(config: RunConfig) -> dict[str, torch.Tensor]:
    return checkpoint.load_weights(config.folder / "model.safetensors")


def losses(config: RunConfig) -> dict[int, set[float]]:
    """All losses logged for each step."""
    found: dict[int, set[float]] = {}
    for event in events.read(config.folder / "events.jsonl"):
        if event["key"] == "train_loss":
            found.setdefault(event["step"], set()).add(event["value"])
    return found


@pytest.mark.parametrize(
    ("target", "name", "call"),
    [
        pytest.param(Fgsm, "perturb", 2, id="in the first epoch"),
        pytest.param(Fgsm, "perturb", 5, id="in the second epoch"),
        pytest.param(train.Trainer, "_monitor", 1, id="in an evaluation"),
        pytest.param(train.Trainer, "_save", 2, id="before a checkpoint"),
        pytest.param(checkpoint, "save_text", 2, id="between a checkpoint and LAST"),
        pytest.param(train.Trainer, "_finish", 1, id="before the final evaluation"),
        pytest.param(train.export, "write", 1, id="before the export"),
        pytest.param(checkpoint, "save_weights", 1, id="in the export"),
    ],
)
def test_an_interrupted_run_ends_as_one_that_was_not(
    whole: RunConfig, tiny: Tiny, world: World, target: object, name: str, call: int
) -> None:
    broken = tiny(*AUGMENTED)
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, target, name, call)
        with pytest.raises(Killed):
            train.train(broken, world)
    assert not (broken.folder / "summary.json").exists()
    summary = train.train(broken, world)
    assert summary["status"] == "finished"
    different = [key for key, weight in weights(whole).items() if not torch.equal(weight, weights(broken)[key])]
    assert not different, f"other weights: {different}"
    assert losses(broken) == losses(whole)


def test_dropout_goes_on_as_if_nothing_had_happened(tiny: Tiny, world: World) -> None:
    dropout = [
        "model={name: test_resnet, options: {drop_rate: 0.5}}",
        "data.size=32",
        "epochs=2",
        "attack.name=natural",
    ]
    straight, broken = tiny("name=straight", *dropout), tiny("name=broken", *dropout)
    train.train(straight, world)
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, train.Trainer, "_save", 2)
        with pytest.raises(Killed):
            train.train(broken, world)
    torch.rand(3)  # a process that starts anew is elsewhere in torch's random numbers
    train.train(broken, world)
    assert losses(broken) == losses(straight)


def test_no_epoch_is_trained_twice_after_its_checkpoint(
    tiny: Tiny, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, Fgsm, "perturb", 8)
        with pytest.raises(Killed):
            train.train(tiny(), world)
    capsys.readouterr()
    train.train(tiny(), world)
    assert "after epoch 2/3" in capsys.readouterr().out
    starts = [e["epoch"] for e in events.read(tiny().folder / "events.jsonl") if e["key"] == "epoch_start"]
    assert starts == [0, 1, 2, 2]


def test_clocks_and_images_go_on_after_an_interruption(tiny: Tiny, world: World) -> None:
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, Fgsm, "perturb", 8)
        with pytest.raises(Killed):
            train.train(tiny(), world)
    before = checkpoint.load_last(tiny().folder / "checkpoints")
    assert before is not None
    summary = train.train(tiny(), world)
    log = events.read(tiny().folder / "events.jsonl")
    assert summary["train_seconds"] > before["trained_seconds"] > 0
    assert summary["train_images_per_second"] == pytest.approx(72 / summary["train_seconds"])
    assert summary["wall_seconds"] >= log[-3]["time"] - log[0]["time"] > 0


def test_a_finished_run_says_so_and_trains_nothing(
    tiny: Tiny, world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = train.train(tiny("epochs=1"), world)
    log = (tiny().folder / "events.jsonl").read_bytes()
    capsys.readouterr()
    monkeypatch.setattr(train.Trainer, "__init__", lambda *_: pytest.fail("a trainer was made"))
    again = train.train(tiny("epochs=1"), world)
    assert json.dumps(again) == json.dumps(first)
    assert "is finished already" in capsys.readouterr().out
    assert (tiny().folder / "events.jsonl").read_bytes() == log


def test_another_configuration_is_refused_unless_it_is_to_be_overwritten(tiny: Tiny, world: World) -> None:
    train.train(tiny("epochs=1"), world)
    with pytest.raises(UserError, match="another configuration"):
        train.train(tiny("epochs=2"), world)
    summary = train.train(tiny("epochs=2"), world, overwrite=True)
    assert summary["epochs"] == 2
    assert [e["key"] for e in events.read(tiny().folder / "events.jsonl")].count("run_start") == 1


def interrupted(config: RunConfig, world: World) -> Path:
    """Checkpoints of a run that was ended after its first epoch."""
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, train.Trainer, "_save", 2)
        with pytest.raises(Killed):
            train.train(config, world)
    return config.folder / "checkpoints"


def test_another_number_of_ranks_is_refused(tiny: Tiny, world: World) -> None:
    folder = interrupted(tiny(), world)
    state = checkpoint.load_last(folder)
    assert state is not None
    checkpoint.save(folder, state["step"], {**state, "world_size": 2})
    with pytest.raises(UserError, match=r"begun on 2 ranks and cannot go on with 1; start 2 ranks, or .*--overwrite"):
        train.train(tiny(), world)


def test_another_models_checkpoint_is_refused(tiny: Tiny, world: World) -> None:
    folder = interrupted(tiny(), world)
    state = checkpoint.load_last(folder)
    assert state is not None
    other = tiny("model.options.width=3").model.build(3).state_dict()
    checkpoint.save(folder, state["step"], {**state, "model": other})
    with pytest.raises(UserError, match="holds the weights of another model: net"):
        train.train(tiny(), world)


def test_a_damaged_checkpoint_stops_the_run(tiny: Tiny, world: World) -> None:
    folder = interrupted(tiny(), world)
    (folder / (folder / "LAST").read_text()).write_bytes(b"")
    with pytest.raises(UserError, match="cannot be read"):
        train.train(tiny(), world)
