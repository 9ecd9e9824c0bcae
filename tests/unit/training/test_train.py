"""Training in one process, on 24 tiny images."""

import json
from collections.abc import Callable

import pytest

from hpcfast.config import RunConfig, read_run
from hpcfast.distributed.comm import World
from hpcfast.errors import UserError
from hpcfast.runs.directory import RunDirectory
from hpcfast.training import train
from tests.unit.whole_runs import different, last_state, log, logged, weights

Tiny = Callable[..., RunConfig]
SUMMARY = {  # the keys that others rely on
    *("status", "dataset", "model", "norm", "eps", "world_size", "epochs", "clean_accuracy", "robust_accuracy"),
    *("n_eval", "ci95", "attack", "train_images_per_second", "train_seconds", "wall_seconds", "target"),
    *("time_to_robust_accuracy_seconds", "catastrophic_overfitting", "target_margin", "target_reached_seconds"),
    *("confirmation", "steps", "images", "global_batch"),
}


def test_a_run_leaves_all_its_files(plain: RunConfig) -> None:
    run = RunDirectory(plain.folder)
    assert read_run(run) == plain
    kept = [f"step-{step:08d}.pt{kind}" for step in (6, 9) for kind in ("", ".sha256")]
    assert [path.name for path in sorted(run.checkpoints.iterdir())] == ["HEALTHY", "LAST", *kept]
    about = json.loads(run.model.read_text())
    assert about["classes"] == ["class0", "class1", "class2"]
    assert about["threat"] == {"norm": "L2", "eps": 0.5}
    assert about["model"]["name"] == "cifar_resnet8"
    assert about["input"] == {"channels": 1, "size": 10, "range": [0, 1]}
    assert not list(run.path.rglob("*.part"))


def test_the_summary_has_the_agreed_keys(plain: RunConfig) -> None:
    summary = RunDirectory(plain.folder).read_summary()
    assert summary is not None
    assert not SUMMARY - set(summary)
    facts = {
        "status": "finished",
        "dataset": "shapes",
        "norm": "L2",
        "eps": 0.5,
        "world_size": 1,
        "epochs": 3,
        "steps": 9,
        "images": 72,
        "global_batch": 8,
        "n_eval": 12,
    }
    assert {key: summary[key] for key in facts} == facts
    assert 0 <= summary["robust_accuracy"] <= summary["clean_accuracy"] <= 1
    assert summary["wall_seconds"] > summary["train_seconds"] > 0
    assert summary["train_images_per_second"] == pytest.approx(72 / summary["train_seconds"])
    assert 0 < summary["data_wait"] < 1


def test_the_log_says_what_the_final_evaluation_found(plain: RunConfig) -> None:
    summary = json.loads((plain.folder / "summary.json").read_text())
    found = {key: summary[key] for key in ("attack", "clean_accuracy", "robust_accuracy")}
    assert logged(plain, "eval_stop") == [None, None, None, found], "of three looks of the monitor nothing"


def test_the_exported_weights_are_the_last_checkpoints(plain: RunConfig) -> None:
    assert not different(last_state(plain)["learner"]["model"], weights(plain))


def test_of_averaged_weights_the_average_is_exported(tiny: Tiny, world: World) -> None:
    config = tiny("ema=0.9", "epochs=1")
    train.train(config, world)
    learner = last_state(config)["learner"]
    assert not different(learner["average"], weights(config))
    assert different(learner["model"], weights(config))


def test_events_tell_the_run_in_order(plain: RunConfig) -> None:
    keys = [event["key"] for event in log(plain)]
    step = ["train_loss", "learning_rate", "zero_gradients"]
    save, evaluation = ["checkpoint_start", "checkpoint_stop"], ["clean_accuracy", "robust_accuracy"]
    epoch = ["epoch_start", *3 * step, "epoch_stop", *save, "eval_start", *evaluation, "eval_stop"]
    assert keys == ["init_start", "init_stop", "run_start", *save, *3 * epoch, "eval_start", "eval_stop", "run_stop"]
    assert [event["step"] for event in log(plain) if event["key"] == "train_loss"] == list(range(1, 10))
    assert [event["time"] for event in log(plain)] == sorted(event["time"] for event in log(plain))


def test_nothing_of_a_run_that_nobody_stopped_counts_as_lost(plain: RunConfig) -> None:
    seconds = last_state(plain)["clock"]["seconds"]
    assert seconds["lost"] == 0
    assert seconds["start"] > 0


def test_the_learning_rate_follows_the_schedule(plain: RunConfig) -> None:
    expected = [0.05 * plain.schedule.factor(step / 3, 3) for step in range(9)]
    assert logged(plain, "learning_rate") == pytest.approx(expected)


def test_the_same_seed_gives_the_same_losses_and_weights(plain: RunConfig, tiny: Tiny, world: World) -> None:
    train.train(tiny(), world)
    assert logged(tiny(), "train_loss") == logged(plain, "train_loss")
    assert not different(weights(tiny()), weights(plain))


def test_another_seed_gives_other_losses(plain: RunConfig, tiny: Tiny, world: World) -> None:
    config = tiny("seed=1", "epochs=1", "evaluation.every=0")
    train.train(config, world)
    assert not set(logged(config, "train_loss")) & set(logged(plain, "train_loss"))


@pytest.mark.parametrize("attack", ["{name: standard}", "{name: fgsm_rs}", "{name: pgd, steps: 2}"])
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
    config = tiny(phases, f"data.augment={augment}", "evaluation.every=2", "allreduce.compression=fp16")
    train.train(config, world)
    assert len(logged(config, "train_loss")) == 24 // 6 + 2 * 24 // 4
    assert logged(config, "learning_rate")[0] == pytest.approx(0.05 * 6 / 8)
    assert len(logged(config, "clean_accuracy")) == 1


def test_losses_are_means_since_the_last_one_logged(plain: RunConfig, tiny: Tiny, world: World) -> None:
    config = tiny("log_every=2", "epochs=3")
    train.train(config, world)
    each = logged(plain, "train_loss")
    pairs = [(0, 2), (3, 4), (4, 6), (6, 8)]  # every second step; no mean goes over the end of an epoch
    assert logged(config, "train_loss") == pytest.approx([sum(each[a:b]) / (b - a) for a, b in pairs])


@pytest.mark.parametrize("attack", ["{name: free, replays: 2}", "{name: trades, steps: 2}", "{name: gradalign}"])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_every_kind_of_method_trains_in_every_precision(attack: str, precision: str, tiny: Tiny, world: World) -> None:
    config = tiny(f"attack={attack}", f"precision={precision}", "epochs=1", "evaluation.every=0", "ema=0.9")
    summary = train.train(config, world)
    assert summary["precision"] == precision
    assert summary["method"]["name"] in attack
    assert len(logged(config, "train_loss")) == 3
    assert all(0 < loss < 10 for loss in logged(config, "train_loss"))


@pytest.mark.parametrize(("duration", "steps", "epochs"), [("steps=7", 7, 7 / 3), ("images=41", 6, 2)])
def test_a_run_may_be_as_long_as_so_many_steps_or_images(
    duration: str, steps: int, epochs: float, tiny: Tiny, world: World
) -> None:
    config = tiny("epochs=null", duration)
    summary = train.train(config, world)
    assert len(logged(config, "train_loss")) == steps
    assert summary["epochs"] == pytest.approx(epochs)
    assert summary["train_images_per_second"] * summary["train_seconds"] == pytest.approx(8 * steps)
    expected = [0.05 * config.schedule.factor(step / 3, epochs) for step in range(steps)]
    assert logged(config, "learning_rate") == pytest.approx(expected)
    assert last_state(config)["position"]["step"] == steps


def test_a_warm_up_that_a_run_of_steps_does_not_leave_is_refused(tiny: Tiny, world: World) -> None:
    config = tiny("epochs=null", "steps=7", "schedule.warmup=3 epochs")
    with pytest.raises(UserError, match=r"^schedule\.warmup: 3 epochs must be less than the run's 2\.33333 epochs"):
        train.train(config, world)
    assert not config.folder.exists()


def test_a_milestone_that_the_run_does_not_reach_is_said(
    tiny: Tiny, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    train.train(tiny("schedule={name: step, milestones: [50%, 9 epochs]}"), world)
    assert "schedule: the run ends after 3 epochs, before 9 epochs\n" in capsys.readouterr().out


def test_a_phases_own_learning_rate_is_taken(tiny: Tiny, world: World) -> None:
    phases = "phases=[{epochs: 1, size: 8, batch_size: 8, lr: 0.02}, {epochs: 1, size: 8, batch_size: 12}]"
    config = tiny("epochs=2", phases, "evaluation.every=0", "schedule={name: step, milestones: [9 epochs]}")
    train.train(config, world)
    assert logged(config, "learning_rate") == pytest.approx([0.02] * 3 + [0.05 * 12 / 8] * 2)


def test_accumulated_batches_make_one_step(tiny: Tiny, world: World) -> None:
    config = tiny("accumulate=3", "epochs=2", "evaluation.every=0", "schedule={name: step, milestones: [9 epochs]}")
    summary = train.train(config, world)
    assert logged(config, "learning_rate") == pytest.approx([0.05 * 24 / 8] * 2), "a step is a batch of 24"
    assert summary["train_images_per_second"] * summary["train_seconds"] == pytest.approx(48)


def test_divergence_is_explained(tiny: Tiny, world: World) -> None:
    with pytest.raises(UserError, match=r"training has diverged: the loss is (nan|inf) .*optim\.lr \(now [0-9.]+e\+"):
        train.train(tiny("optim.lr=1.0e+18"), world)
    assert not (tiny().folder / "summary.json").exists()


def test_fewer_images_than_a_batch_is_refused_before_anything_is_written(tiny: Tiny, world: World) -> None:
    with pytest.raises(UserError, match="24 images to train on, fewer than one global batch of 25 .*at most 24$"):
        train.train(tiny("data.batch_size=25"), world)
    with pytest.raises(UserError, match="batch of 8 images x 1 ranks x accumulate=4; lower .* at most 6$"):
        train.train(tiny("accumulate=4"), world)
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


@pytest.mark.parametrize(("every", "epochs"), [(1, [1, 2, 3, 4, 5]), (2, [2, 4]), (3, [3]), (0, [])])
def test_the_monitor_looks_after_every_so_many_epochs(every: int, epochs: list[int], tiny: Tiny, world: World) -> None:
    config = tiny(f"evaluation.every={every}", "epochs=5", "attack.name=standard")
    train.train(config, world)
    assert [event["epoch"] for event in log(config) if event["key"] == "clean_accuracy"] == epochs
