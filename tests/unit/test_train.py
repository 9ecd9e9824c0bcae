"""Training in one process, on 24 tiny images."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hpcfast import checkpoint, events, train
from hpcfast.comm import World
from hpcfast.config import RunConfig, load
from hpcfast.errors import UserError
from hpcfast.rundir import RunDirectory
from tests.conftest import RUN

Tiny = Callable[..., RunConfig]
SUMMARY = {  # the keys that others rely on
    *("status", "dataset", "model", "norm", "eps", "world_size", "epochs", "clean_accuracy", "robust_accuracy"),
    *("n_eval", "ci95", "attack", "train_images_per_second", "train_seconds", "wall_seconds", "target"),
    *("time_to_robust_accuracy_seconds", "catastrophic_overfitting"),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, images: Path, world: World) -> RunConfig:
    """A run that is done; don't change its folder."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "tiny.yaml").write_text(RUN)
    config = load(folder / "tiny.yaml", [f"data.path={images}", f"runs={folder / 'runs'}"])
    train.train(config, world)
    return config


def logged(config: RunConfig, key: str) -> list[Any]:
    return [event["value"] for event in events.read(config.folder / "events.jsonl") if event["key"] == key]


def test_a_run_leaves_all_its_files(finished: RunConfig) -> None:
    run = RunDirectory(finished.folder)
    assert run.read_config() == finished
    assert [path.name for path in sorted(run.checkpoints.iterdir())] == ["LAST", "step-00000006.pt", "step-00000009.pt"]
    about = json.loads(run.model.read_text())
    assert about["classes"] == ["class0", "class1", "class2"]
    assert about["threat"] == {"norm": "L2", "eps": 0.5}
    assert about["model"]["name"] == "cifar_resnet8"
    assert about["input"] == {"channels": 1, "size": 10, "range": [0, 1]}
    assert not list(run.path.rglob("*.part"))


def test_the_summary_has_the_agreed_keys(finished: RunConfig) -> None:
    summary = RunDirectory(finished.folder).read_summary()
    assert summary is not None
    assert not SUMMARY - set(summary)
    facts = {
        "status": "finished",
        "dataset": "shapes",
        "norm": "L2",
        "eps": 0.5,
        "world_size": 1,
        "epochs": 3,
        "n_eval": 12,
    }
    assert {key: summary[key] for key in facts} == facts
    assert 0 <= summary["robust_accuracy"] <= summary["clean_accuracy"] <= 1
    assert summary["wall_seconds"] > summary["train_seconds"] > 0
    assert summary["train_images_per_second"] == pytest.approx(72 / summary["train_seconds"])


def test_the_exported_weights_are_the_last_checkpoints(finished: RunConfig) -> None:
    run = RunDirectory(finished.folder)
    last, exported = checkpoint.load_last(run.checkpoints), checkpoint.load_weights(run.weights)
    assert last is not None
    assert last["model"].keys() == exported.keys()
    assert all(torch.equal(exported[name], weight) for name, weight in last["model"].items())


def test_events_tell_the_run_in_order(finished: RunConfig) -> None:
    log = events.read(finished.folder / "events.jsonl")
    keys = [event["key"] for event in log]
    step, evaluation = ["train_loss", "learning_rate"], ["eval_start", "clean_accuracy", "robust_accuracy", "eval_stop"]
    epoch = ["epoch_start", *3 * step, "epoch_stop", *evaluation, "checkpoint_start", "checkpoint_stop"]
    assert keys == ["run_start", *3 * epoch, "eval_start", "eval_stop", "run_stop"]
    assert [event["step"] for event in log if event["key"] == "train_loss"] == list(range(1, 10))
    assert [event["time"] for event in log] == sorted(event["time"] for event in log)


def test_the_learning_rate_follows_the_schedule(finished: RunConfig) -> None:
    expected = [0.05 * finished.schedule.factor(step / 3, 3) for step in range(9)]
    assert logged(finished, "learning_rate") == pytest.approx(expected)


def test_the_same_seed_gives_the_same_losses_and_weights(finished: RunConfig, tiny: Tiny, world: World) -> None:
    train.train(tiny(), world)
    assert logged(tiny(), "train_loss") == logged(finished, "train_loss")
    weights = [checkpoint.load_weights(config.folder / "model.safetensors") for config in (finished, tiny())]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_another_seed_gives_other_losses(finished: RunConfig, tiny: Tiny, world: World) -> None:
    config = tiny("seed=1", "epochs=1", "evaluation.every=0")
    train.train(config, world)
    assert not set(logged(config, "train_loss")) & set(logged(finished, "train_loss"))


@pytest.mark.parametrize("attack", ["{name: natural}", "{name: fgsm}", "{name: pgd, steps: 2}"])
def test_training_learns(attack: str, tiny: Tiny, world: World) -> None:
    changes = ["epochs=10", "evaluation.every=0", "threat.eps=0.1", "model.options.width=4", "optim.lr=0.1"]
    summary = train.train(tiny(f"attack={attack}", *changes), world)
    losses = logged(tiny(), "train_loss")
    assert sum(losses[-3:]) < 0.7 * sum(losses[:3]), f"losses {losses}"
    assert summary["clean_accuracy"] > 0.6
    assert summary["method"]["name"] in attack


@pytest.mark.parametrize("augment", ["pad_crop_flip", "resized_crop_flip"])
def test_phases_with_their_own_sizes_are_trained(augment: str, tiny: Tiny, world: World) -> None:
    phases = "phases=[{epochs: 1, size: 8, batch_size: 6}, {epochs: 2, size: 12, batch_size: 4}]"
    config = tiny(phases, f"data.augment={augment}", "evaluation.every=2", "compression=fp16")
    train.train(config, world)
    assert len(logged(config, "train_loss")) == 24 // 6 + 2 * 24 // 4
    assert logged(config, "learning_rate")[0] == pytest.approx(0.05 * 6 / 8)
    assert len(logged(config, "clean_accuracy")) == 1


def test_losses_are_means_since_the_last_one_logged(finished: RunConfig, tiny: Tiny, world: World) -> None:
    config = tiny("log_every=2", "epochs=3")
    train.train(config, world)
    each = logged(finished, "train_loss")
    ends = [2, 3, 4, 6, 8, 9]  # every second step, and the last of an epoch
    means = [sum(each[a:b]) / (b - a) for a, b in zip([0, *ends], ends, strict=False)]
    assert logged(config, "train_loss") == pytest.approx(means)


def test_divergence_is_explained(tiny: Tiny, world: World) -> None:
    with pytest.raises(UserError, match=r"training has diverged: the loss is (nan|inf) .*optim\.lr \(now 1e\+"):
        train.train(tiny("optim.lr=1.0e+18"), world)
    assert not (tiny().folder / "summary.json").exists()


def test_fewer_images_than_a_batch_is_refused_before_anything_is_written(tiny: Tiny, world: World) -> None:
    with pytest.raises(UserError, match="24 images, fewer than one global batch of 25 .*at most 24$"):
        train.train(tiny("data.batch_size=25"), world)
    with pytest.raises(UserError, match="batch of 40 "):
        train.train(tiny("phases=[{epochs: 2, size: 8, batch_size: 4}, {epochs: 1, size: 8, batch_size: 40}]"), world)
    assert not tiny().runs.exists()


def test_more_ranks_than_the_images_fill_is_refused(tiny: Tiny) -> None:
    with pytest.raises(UserError, match="batch of 8 images x 4 ranks; .*at most 6, or use fewer ranks"):
        train.train(tiny(), World(rank=0, size=4, local_rank=0, threads=1))


def test_missing_data_is_refused_before_anything_is_written(tiny: Tiny, world: World) -> None:
    with pytest.raises(UserError, match="no folder nowhere/train"):
        train.train(tiny("data.path=nowhere"), world)
    assert not tiny().runs.exists()
