"""Runs explained: the files, the picture, the command, and what is refused."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from hpcfast import cli, explain
from hpcfast.attacks.norms import Threat
from hpcfast.config import load
from hpcfast.distributed.comm import World
from hpcfast.explain import features, figure
from hpcfast.runs.directory import RunDirectory
from hpcfast.training import train
from tests.conftest import RUN, write_images

COLOUR = ["data.channels=3", "model.mean=[0.5, 0.5, 0.5]", "model.std=[0.25, 0.25, 0.25]"]
Trained = Callable[..., RunDirectory]


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "STEPS", 5)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, images: Path, world: World) -> Trained:
    """Call it with a name and overrides to get a finished run that has learnt something."""
    folder = tmp_path_factory.mktemp("explain")
    (folder / "tiny.yaml").write_text(RUN)
    common = [
        f"data.path={images}",
        f"runs={folder}",
        "model.options.width=4",
        "epochs=8",
        "evaluation.every=0",
        "data.held_out=0",
    ]

    def make(name: str, *overrides: str) -> RunDirectory:
        config = load(folder / "tiny.yaml", [*common, f"name={name}", "optim.lr=0.1", *overrides])
        train.train(config, world)
        return RunDirectory(config.folder)

    return make


@pytest.fixture(scope="module")
def runs(trained: Trained) -> list[RunDirectory]:
    """Two finished runs, standard and fast; only their explanations may change."""
    return [trained("standard", "attack.name=standard"), trained("fast")]


@pytest.fixture
def hpcfast(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], world: World) -> Callable[..., Any]:
    """Run ``hpcfast explain ARGS``; returns exit code, output and errors."""

    def run(*args: object) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["hpcfast", "explain", *map(str, args)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        return (caught.value.code or 0, *capsys.readouterr())

    return run


def paths(runs: list[RunDirectory]) -> list[Path]:
    return [run.path for run in runs]


def test_each_run_gets_its_numbers_and_the_last_one_the_picture(
    runs: list[RunDirectory], hpcfast: Any, tmp_path: Path
) -> None:
    code, out, _ = hpcfast(*paths(runs), "--images", 11, "--json", tmp_path / "all.json")
    assert code == 0
    reported = json.loads((tmp_path / "all.json").read_text())
    for run, row in zip(runs, reported["runs"], strict=True):
        kept = json.loads((run.path / "explain.json").read_text())
        assert row == {"run": str(run.path), **kept}
        assert set(kept) == {"alignment", "n", "versions"}
        assert set(kept["alignment"]) == {"image"}
        assert kept["n"] == 11
        for value in kept["alignment"].values():
            assert value["ci95"][0] < value["mean"] < value["ci95"][1]
            assert value["n"] == 11
            assert f"{value['mean']:.3f} [{value['ci95'][0]:.3f}, {value['ci95'][1]:.3f}]" in out
    assert reported["picture"] == str(runs[1].figures / "explain.png")
    picture = np.asarray(Image.open(reported["picture"]).convert("RGB"))
    assert picture.shape[1] > 500
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 100, "the picture looks empty"
    assert not (runs[0].figures / "explain.png").exists()


def test_the_same_command_gives_the_same_files(runs: list[RunDirectory], hpcfast: Any) -> None:
    made = []
    for _ in range(2):
        assert hpcfast(runs[1].path)[0] == 0
        kept = (runs[1].path / "explain.json").read_text()
        assert json.loads(kept)["n"] == 12, "all there are, by default"
        made.append((kept, (runs[1].figures / "explain.png").read_bytes()))
    assert made[0] == made[1]


def test_colour_images_are_explained_too(trained: Trained, hpcfast: Any, tmp_path: Path) -> None:
    data = write_images(tmp_path / "data", {"train": 6, "val": 4}, classes=2, mode="RGB")
    run = trained("colour", *COLOUR, f"data.path={data}", "threat.norm=Linf", "threat.eps=8/255")
    code, _, err = hpcfast(run.path)
    assert code == 0, err
    picture = np.asarray(Image.open(run.figures / "explain.png").convert("RGB")).astype(int)
    assert (picture.max(2) - picture.min(2)).max() > 100, "the picture has no colours"


@pytest.mark.parametrize("n", [-1, 0, 1, 13])
def test_an_impossible_number_of_images_is_refused(runs: list[RunDirectory], hpcfast: Any, n: int) -> None:
    code, _, err = hpcfast(*paths(runs), "--images", n)
    assert code == 2
    assert err.startswith(f"error: --images {n}: ")
    assert "of 12 in " in err


def test_runs_of_different_data_are_refused(runs: list[RunDirectory], hpcfast: Any, tmp_path: Path) -> None:
    other = RunDirectory(tmp_path / "other")
    other.path.mkdir()
    for name in ("model.json", "model.safetensors"):
        (other.path / name).write_bytes((runs[0].path / name).read_bytes())
    other.config.write_text(runs[0].config.read_text().replace("size: 10", "size: 12"))
    code, _, err = hpcfast(runs[1].path, other.path)
    assert code == 2
    assert "runs of different data" in err
    assert "1 x 10 x 10" in err
    assert "1 x 12 x 12" in err


def test_data_of_other_classes_is_refused(runs: list[RunDirectory], hpcfast: Any, tmp_path: Path) -> None:
    data = write_images(tmp_path / "data", {"train": 2, "val": 2}, classes=2)
    code, _, err = hpcfast(*paths(runs), f"data.path={data}")
    assert code == 2
    assert "does not have the classes of all runs: class0, class1 …, not class0, class1, class2 …" in err


def test_an_unfinished_run_is_refused(runs: list[RunDirectory], hpcfast: Any, tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "half")
    run.path.mkdir()
    run.config.write_text(runs[0].config.read_text())
    code, _, err = hpcfast(runs[0].path, run.path)
    assert code == 2
    assert "finish the run first" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [(["nowhere"], "nowhere is no run directory"), (["seed=1"], "seed=1: no run is given, only settings")],
)
def test_what_is_no_run_is_refused(hpcfast: Any, words: list[str], message: str) -> None:
    code, _, err = hpcfast(*words)
    assert code == 2
    assert message in err


def test_a_folder_that_cannot_be_written_is_named(runs: list[RunDirectory], hpcfast: Any, tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "copy")
    run.path.mkdir()
    for name in ("model.json", "model.safetensors", "config.yaml"):
        (run.path / name).write_bytes((runs[0].path / name).read_bytes())
    run.figures.write_text("not a folder")
    code, _, err = hpcfast(run.path)
    assert code == 2
    assert f"cannot write ([Errno 17] File exists: '{run.figures}')" in err


def test_pictured_images_are_right_for_all_and_of_different_classes() -> None:
    labels = np.repeat(np.arange(6), 3)
    right = np.ones((2, 18), bool)
    right[0, :4] = False  # all of class 0, and the first of class 1
    right[1, 4] = False
    places = figure.choose(labels, right)
    assert right[:, places].all()
    assert labels[places].tolist() == [1, 2, 4, 5]
    assert places[0] == 5


@pytest.mark.parametrize("classes", [0, 1])
def test_weak_networks_are_pictured_at_any_images(classes: int) -> None:
    labels = np.repeat(np.arange(3), 2)
    assert figure.choose(labels, labels[None] < classes).tolist() == [0, 2, 4]


@pytest.mark.parametrize(("norm", "expected"), [("L2", 0.5), ("Linf", 0.5 * 48**0.5)])
def test_the_reach_is_that_of_the_ball_s_farthest_point(norm: str, expected: float) -> None:
    x = torch.zeros(2, 3, 4, 4)
    assert explain.reach(Threat(norm=norm, eps=0.5), x) == pytest.approx(expected)
    farthest = 0.5 * torch.ones(3, 4, 4) if norm == "Linf" else nn.functional.one_hot(torch.tensor(3), 48) * 0.5
    assert farthest.norm().item() == pytest.approx(expected)
