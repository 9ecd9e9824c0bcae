"""``hpcfast train`` under real launchers: same losses everywhere, and interruptions change nothing."""

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.distributed.conftest import FORKED, LAUNCHERS, WORKERS, Playground

pytestmark = pytest.mark.distributed
FAULTY = str(WORKERS / "faulty_train.py")
ALWAYS = "checkpoint.minutes=1e-9"  # at every step
IMAGES, VAL_IMAGES = 48, 21


@pytest.fixture(scope="module")
def reference(playground: Playground) -> str:
    """An uninterrupted run on 2 ranks."""
    job = playground.train(2, "reference", launcher="gloo")
    assert job.code == 0, job.output
    return "reference"


def other_weights(playground: Playground, one: str, two: str) -> list[str]:
    a, b = (load_file(playground.path / "runs" / run / "model.safetensors") for run in (one, two))
    return [key for key in a.keys() | b.keys() if not torch.equal(a[key], b[key])]


def trained_on(run: Path) -> list[dict[str, Any]]:
    """What all ranks that ever trained ``run`` say they took: epoch, step and ids."""
    lines = [line for file in run.glob("seen-*.jsonl") for line in file.read_text().splitlines()]
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("launcher", [name for name in LAUNCHERS if name != "gloo"])
def test_same_seed_same_losses_under_every_launcher(playground: Playground, reference: str, launcher: str) -> None:
    job = playground.train(2, launcher, launcher=launcher)
    assert job.code == 0, job.output
    losses = playground.values(launcher, "train_loss")
    assert len(losses) == 3 * (IMAGES // 8), "three epochs of six steps"
    assert losses == playground.values(reference, "train_loss")


def test_another_seed_gives_other_losses(playground: Playground, reference: str) -> None:
    assert playground.train(2, "other-seed", "seed=1").code == 0
    assert playground.values("other-seed", "train_loss") != playground.values(reference, "train_loss")


def test_summary_says_what_was_reached(playground: Playground, reference: str) -> None:
    summary = json.loads((playground.path / "runs" / reference / "summary.json").read_text())
    assert summary["world_size"] == 2
    assert summary["n_eval"] == VAL_IMAGES
    assert summary["robust_accuracy"] <= summary["clean_accuracy"]
    low, high = summary["ci95"]["clean_accuracy"]
    assert low <= summary["clean_accuracy"] <= high
    assert summary["train_images_per_second"] * summary["train_seconds"] == pytest.approx(3 * IMAGES)


@pytest.mark.parametrize(("epoch", "launcher"), [(0, FORKED), (1.5, "gloo")])
def test_a_killed_run_goes_on_to_the_same_weights(
    playground: Playground, reference: str, epoch: float, launcher: str
) -> None:
    name = f"killed-{epoch}"
    command = ("train", str(playground.config), f"name={name}", ALWAYS)
    killed = playground.start(2, FAULTY, "kill", "1", str(epoch), *command, launcher=launcher)
    assert killed.code != 0
    assert not (playground.path / "runs" / name / "summary.json").exists()
    again = playground.hpcfast(2, *command)
    assert again.code == 0, again.output
    assert again.output.count("going on with") == 1, again.output
    assert ("after epoch 0/3" in again.output) == (epoch == 0), again.output
    assert not other_weights(playground, reference, name)


@pytest.mark.parametrize(("rank", "launcher"), [("all", "mpirun"), ("1", FORKED)])
def test_ranks_asked_to_stop_save_and_go_on_to_the_same_weights(
    playground: Playground, reference: str, rank: str, launcher: str
) -> None:
    name = f"stopped-{rank}"
    command = ("train", str(playground.config), f"name={name}")
    stopped = playground.start(2, FAULTY, "stop", rank, "1.5", *command, launcher=launcher)
    assert stopped.code == 75, stopped.output
    assert stopped.output.count("the same command goes on from there") == 1, stopped.output
    steps = len(playground.values(name, "train_loss"))
    assert 9 < steps < 18, "it stopped within the second epoch or soon after, not before the signal nor at the end"
    again = playground.hpcfast(2, *command)
    assert again.code == 0, again.output
    assert len(playground.values(name, "train_loss")) == 18, "no step was lost, none taken twice"
    assert not other_weights(playground, reference, name)


@pytest.fixture(scope="module")
def half_way(playground: Playground) -> Path:
    """The folder of a run of 2 ranks that was killed in its second epoch; it saved at every step."""
    job = playground.start(2, FAULTY, "kill", "0", "1.5", "train", str(playground.config), "name=resized", ALWAYS)
    assert job.code != 0
    return playground.path / "runs"


@pytest.mark.parametrize("ranks", [1, 3])
def test_another_number_of_ranks_takes_what_is_left_of_the_epoch(
    playground: Playground, half_way: Path, ranks: int
) -> None:
    runs = playground.path / f"on-{ranks}"
    shutil.copytree(half_way / "resized", runs / "resized")
    run = runs / "resized"
    before = trained_on(run)
    command = ("train", str(playground.config), "name=resized", ALWAYS, f"runs={runs}")
    job = playground.start(ranks, FAULTY, "none", "all", "0", *command)
    assert job.code == 0, job.output
    assert f"now on {ranks} ranks instead of 2" in job.output
    after = trained_on(run)[:]
    for seen in before:
        after.remove(seen)
    first = min(seen["step"] for seen in after)
    assert first > 6, "it went on from within the second epoch"
    kept = [seen for seen in before if seen["step"] < first]
    left = IMAGES - 8 * (first - 6)
    for epoch, missing in ((1, left % (4 * ranks)), (2, 0)):  # the last ones that fill no global batch are left out
        counts = Counter(i for seen in kept + after if seen["epoch"] == epoch for i in seen["ids"])
        assert set(counts.values()) == {1}, f"epoch {epoch}: an image came twice"
        assert len(counts) == IMAGES - missing, f"epoch {epoch}"


def test_a_loss_that_is_no_number_on_one_rank_ends_all_with_one_message(playground: Playground) -> None:
    command = ("train", str(playground.config), "name=poisoned")
    job = playground.start(2, FAULTY, "poison", "1", "1.5", *command)
    assert job.code == 2, job.output
    assert job.output.count("error: ") == 1, job.output
    assert "the loss is nan at step 9 (epoch 1.50) on rank 1" in job.output
    (file,) = (playground.path / "runs" / "poisoned" / "failures").glob("*-rank-1.json")
    named = json.loads(file.read_text())["files"]
    assert len(named) == 4
    assert str(file.relative_to(playground.path)) in job.output
    ids = [i for seen in trained_on(file.parents[1]) if seen["step"] == 9 for i in seen["ids"]]
    assert len(ids) == 8, "both ranks took the step"


def test_a_finished_run_says_so_and_trains_nothing(playground: Playground, reference: str) -> None:
    before = playground.values(reference, "train_loss")
    job = playground.train(2, reference)
    assert job.code == 0
    assert job.output.count("is finished already") == 1
    assert playground.values(reference, "train_loss") == before
