"""``hpcfast train`` under real launchers: same losses everywhere, and resuming changes nothing."""

import json

import pytest
import torch
from safetensors.torch import load_file

from tests.distributed.conftest import LAUNCHERS, WORKERS, Playground

pytestmark = pytest.mark.distributed


@pytest.fixture(scope="module")
def reference(playground: Playground) -> str:
    """An uninterrupted run on 2 ranks."""
    job = playground.train(2, "reference")
    assert job.code == 0, job.output
    return "reference"


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_same_seed_same_losses_under_every_launcher(playground: Playground, reference: str, launcher: str) -> None:
    job = playground.train(2, launcher, launcher=launcher)
    assert job.code == 0, job.output
    losses = playground.values(launcher, "train_loss")
    assert len(losses) == 3 * (48 // 8), "three epochs of six steps"
    assert losses == playground.values(reference, "train_loss")


def test_another_seed_gives_other_losses(playground: Playground, reference: str) -> None:
    assert playground.train(2, "other-seed", "seed=1").code == 0
    assert playground.values("other-seed", "train_loss") != playground.values(reference, "train_loss")


def test_summary_says_what_was_reached(playground: Playground, reference: str) -> None:
    summary = json.loads((playground.path / "runs" / reference / "summary.json").read_text())
    assert summary["world_size"] == 2
    assert summary["n_eval"] == 21
    assert summary["robust_accuracy"] <= summary["clean_accuracy"]
    low, high = summary["ci95"]["clean_accuracy"]
    assert low <= summary["clean_accuracy"] <= high
    assert summary["train_images_per_second"] * summary["train_seconds"] == pytest.approx(3 * 48)


@pytest.mark.parametrize("epoch", [0, 2])
def test_a_killed_run_goes_on_to_the_same_weights(playground: Playground, reference: str, epoch: int) -> None:
    name = f"killed-{epoch}"
    command = ("train", str(playground.config), f"name={name}")
    killed = playground.start(2, str(WORKERS / "faulty_train.py"), "kill", "1", str(epoch), *command)
    assert killed.code != 0
    again = playground.hpcfast(2, *command)
    assert again.code == 0, again.output
    assert ("going on with" in again.output) == (epoch > 0)
    expected, found = (load_file(playground.path / "runs" / run / "model.safetensors") for run in (reference, name))
    assert all(torch.equal(expected[key], found[key]) for key in expected)


def test_a_finished_run_says_so_and_trains_nothing(playground: Playground, reference: str) -> None:
    before = playground.values(reference, "train_loss")
    job = playground.train(2, reference)
    assert job.code == 0
    assert job.output.count("is finished already") == 1
    assert playground.values(reference, "train_loss") == before


def test_another_number_of_ranks_is_refused_for_an_unfinished_run(playground: Playground) -> None:
    command = ("train", str(playground.config), "name=resized")
    playground.start(2, str(WORKERS / "faulty_train.py"), "kill", "0", "1", *command)
    job = playground.hpcfast(3, *command, launcher="mpirun")
    assert job.code == 2, job.output
    assert job.output.count("error: runs/resized was begun on 2 ranks and cannot go on with 3") == 1


def test_evaluation_is_the_same_on_any_number_of_ranks(playground: Playground, reference: str) -> None:
    results = []
    for ranks in (0, 1, 2, 3):
        out = playground.path / f"eval-{ranks}.json"
        job = playground.hpcfast(ranks, "eval", f"runs/{reference}", "--steps", "4", "--json", str(out))
        assert job.code == 0, job.output
        results.append({k: v for k, v in json.loads(out.read_text()).items() if k != "seconds"})
    assert results[0]["n_eval"] == 21
    assert results[0]["attack"]["steps"] == 4
    assert all(result == results[0] for result in results)
