"""`hpcfast init`: from images to a configuration that trains."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner, Result

from hpcfast.cli import app
from hpcfast.config import load
from hpcfast.errors import UserError


def run(*words: object) -> Result:
    return CliRunner().invoke(app, [*map(str, words)])


def refusal(*words: object) -> str:
    done = run(*words)
    assert isinstance(done.exception, UserError), done.output
    return str(done.exception)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three classes of 40 JPEGs, without train and val."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for label, name in enumerate(("cat", "dog", "newt")):
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for i in range(40):
            pixels = rng.integers(0, 90, (60, 70, 3), dtype=np.uint8)
            pixels[10:40, 20:50, label] += 120
            Image.fromarray(pixels).save(folder / f"{i:02}.jpg")
    return Path("photos")


def test_from_a_folder_of_photographs_to_a_report_in_three_commands(photos: Path) -> None:
    """As they are printed, with nothing edited; small images, so that it takes seconds."""
    for file in photos.rglob("*.jpg"):
        Image.open(file).resize((20, 16)).save(file)
    done = run("init", "--data", photos, "--model", "cifar_resnet8")
    assert done.exit_code == 0, done.output
    assert "data/photos: 3 classes, 96 images to train on, 24 to validate with" in done.output
    train, report = (line.partition(": hpcfast ")[2].split() for line in done.output.splitlines()[-2:])
    assert (train[0], report[0]) == ("train", "report")
    assert run(*train).exit_code == 0
    summary = json.loads(Path("runs/photos/summary.json").read_text())
    assert (summary["status"], summary["n_eval"]) == ("finished", 24)
    assert f"cifar_resnet8, {summary['steps']:,} steps on one rank" in done.output
    assert run(*report).exit_code == 0


def test_three_lines_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = "threat: {norm: L2, eps: 1}\ndata: {path: 'synthetic:200x3'}\nmodel: {name: cifar_resnet8}\n"
    Path("three.yaml").write_text(lines)
    done = run("train", "three.yaml", "steps=2", "evaluation.final.images=6")
    assert done.exit_code == 0, done.output
    assert json.loads(Path("runs/three/summary.json").read_text())["status"] == "finished"


def test_what_is_written_fits_the_images(photos: Path) -> None:
    run("init", "--data", photos, "--norm", "L2", "--eps", "0.7", "--model", "resnet10t", "--recipe", "pgd7", "val=50%")
    config = load(Path("photos.yaml"))
    assert (config.threat.norm, config.threat.eps, config.model.name) == ("L2", 0.7, "resnet10t")
    assert (config.attack.name, config.attack.updates, config.data.channels) == ("pgd", 1, 3)
    pixels = np.stack([np.asarray(Image.open(file)) for file in photos.rglob("*.jpg")]) / 255
    assert config.model.mean == pytest.approx(pixels.mean((0, 1, 2)), abs=0.02)
    assert config.model.std == pytest.approx(pixels.std((0, 1, 2)), abs=0.05)


def test_data_that_are_divided_are_taken_as_they_are(photos: Path) -> None:
    run("init", "--data", photos)
    done = run("init", "--data", "data/photos", "--out", "other.yaml")
    assert done.exit_code == 0, done.output
    assert load(Path("other.yaml")).data.path == Path("data/photos")
    assert "divided into train and val already" in refusal("init", "--data", "data/photos", "--out", "3.yaml", "val=9%")


def test_classes_of_different_sizes_are_said(photos: Path) -> None:
    for file in sorted((photos / "cat").iterdir())[10:]:
        file.unlink()
    assert "unbalanced: 'cat' has 8 images, 'newt' 32" in run("init", "--data", photos).output
    assert load(Path("photos.yaml")).class_weights == "balanced"


def test_grey_and_small_images_get_a_network_for_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for label in "ab":
        (tmp_path / "cells" / label).mkdir(parents=True)
        for i in range(10):
            Image.fromarray(np.full((28, 28), 20 * i, np.uint8)).save(tmp_path / "cells" / label / f"{i}.png")
    assert run("init", "--data", "cells").exit_code == 0
    config = load(Path("cells.yaml"))
    assert (config.data.channels, config.data.size, config.model.name) == (1, 28, "cifar_resnet20")


@pytest.mark.parametrize(("images", "batch"), [(7, 8), (20, 16), (40, 32)])
def test_however_few_images_make_a_batch(photos: Path, images: int, batch: int) -> None:
    for file in [file for folder in photos.iterdir() for file in sorted(folder.iterdir())[images:]]:
        file.unlink()
    done = run("init", "--data", photos)
    assert done.exit_code == 0, done.output
    assert " 0 steps" not in done.output
    assert load(Path("photos.yaml")).data.batch_size == batch, "small ones take longer"


@pytest.mark.parametrize("images", [2, 3])
def test_classes_of_a_few_images_are_refused(photos: Path, images: int) -> None:
    for file in [file for folder in photos.iterdir() for file in sorted(folder.iterdir())[images:]]:
        file.unlink()
    assert "--data photos: 3 of 3 classes have fewer than 5 images to train on" in refusal("init", "--data", photos)
    assert not list(Path().glob("*.yaml"))


def test_ten_thousand_folders_of_an_image_are_no_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    image = tmp_path / "one.png"
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(image)
    for i in range(10_000):
        (tmp_path / "shots" / f"{i:04}").mkdir(parents=True)
        (tmp_path / "shots" / f"{i:04}" / "a.png").hardlink_to(image)
    assert "--data shots: 10000 classes have no image in train" in refusal("init", "--data", "shots")


def test_a_file_is_not_replaced_unasked(photos: Path) -> None:
    Path("photos.yaml").write_text("mine")
    assert "photos.yaml exists; give another --out, or --overwrite" in refusal("init", "--data", photos)
    assert Path("photos.yaml").read_text() == "mine"
    assert run("init", "--data", photos, "--overwrite").exit_code == 0
    assert yaml.safe_load(Path("photos.yaml").read_text())["threat"]["norm"] == "Linf"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--data", "nowhere"], "--data nowhere: nothing is there"),
        (["--data", "photos/cat"], "--data photos/cat: 0 classes (none), at least 2"),
        (["--data", "photos", "--model", "resnet5"], "--model resnet5: 'resnet5'"),
        (["--data", "photos", "--recipe", "slow"], "--recipe slow: must be one of fast, published, pgd7, standard"),
        (["--data", "photos", "--eps", "300"], "write e.g. 8/255"),
        (["--data", "photos", "--norm", "L3"], "--norm L3: must be one of Linf, L2"),
        (["--data", "photos", "--eps", "1, norm: L1}"], "--eps 1, norm: L1}"),
        (["--data", "photos", "--model", "}"], "--model }"),
        (["--data", "photos", "size=3"], "size: unknown key"),
    ],
)
def test_what_is_wrong_is_one_message_and_no_file(photos: Path, words: list[str], said: str) -> None:
    assert said in refusal("init", *words)
    assert not list(Path().glob("*.yaml"))
    assert not list(Path().glob(".*"))
