"""Synthetic data: batches without files, and folders of JPEGs made from photographs."""

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hpcfast.data.reader import read_splits
from hpcfast.datasets.generate import QUALITY, Recipe, drawn, synthesise
from hpcfast.errors import UserError
from tests.unit.loading import joined, read, settings

SMALL = Recipe(12, 3, (40, 30))


def ignore(done: int) -> None:
    """No progress is shown."""


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small folder; don't write into it."""
    out = tmp_path_factory.mktemp("synthetic") / "deep" / "out"
    done: list[int] = []
    synthesise(SMALL, out, done.append)
    assert done[-1] == 15
    return out


def test_in_memory_batches_have_the_ids_and_labels_of_their_places_and_the_same_pixels() -> None:
    train, val = read_splits(Path("synthetic:100x7"))
    assert (len(train), len(val), len(train.classes)) == (100, 7, 7)
    assert np.bincount(train.labels).min() >= 14
    order = [99, 3, 50, 0, 1, 2]
    batches = read(settings(Path("synthetic:100x7"), 8), key=1, ids=order)
    assert [len(batch.x) for batch in batches] == [4, 2]
    x, y, ids = joined(batches)
    assert ids.tolist() == order
    assert y.tolist() == train.labels[order].tolist()
    assert x.shape == (6, 3, 8, 8)
    assert 0 <= x.min() < x.max() <= 1
    assert batches[0].x.data_ptr() == batches[1].x.data_ptr(), "one tensor, made once"
    assert torch.equal(batches[0].x[:2], batches[1].x)


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_in_memory_evaluation_sees_each_image_once(ranks: int) -> None:
    parts = [read(settings(Path("synthetic:10x2"), 8), shard=(rank, ranks)) for rank in range(ranks)]
    assert sorted(i for part in parts for batch in part for i in batch.ids.tolist()) == list(range(10))


@pytest.mark.parametrize("text", ["synthetic:", "synthetic:10", "synthetic:10x1", "synthetic:2x3", "synthetic:-9x2"])
def test_a_wrong_synthetic_path_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=rf"'{text}' must be synthetic:IMAGESxCLASSES"):
        read_splits(Path(text))


def test_the_folder_is_a_data_set_of_the_size_asked_for(made: Path) -> None:
    train, val = read_splits(made)
    assert train.labels.tolist() == np.repeat([0, 1, 2], 4).tolist()
    assert val.labels.tolist() == [0, 1, 2]
    pixels = [np.asarray(Image.open(file)) for file in train.files + val.files]
    assert {image.shape for image in pixels} == {(30, 40, 3)}
    assert len({image.tobytes() for image in pixels}) == 15, "no two alike"


def test_images_are_functions_of_their_numbers(made: Path, tmp_path: Path) -> None:
    def saved(recipe: Recipe) -> bytes:
        drawn(recipe, "train", 7, 1).save(tmp_path / "one.jpg", quality=QUALITY)
        return (tmp_path / "one.jpg").read_bytes()

    assert saved(SMALL) == (made / "train" / "class00001" / "train_00000007.jpg").read_bytes()


def test_default_sizes_are_mixed_and_files_as_large_as_imagenets(tmp_path: Path) -> None:
    recipe = Recipe(60, 6)
    images = [drawn(recipe, "train", i, i // 10) for i in range(60)]
    assert len({image.size for image in images}) > 4
    for i, image in enumerate(images):
        image.save(tmp_path / f"{i}.jpg", quality=QUALITY)
    assert 80_000 < np.mean([file.stat().st_size for file in tmp_path.iterdir()]) < 130_000


def test_a_class_shows_in_the_colours() -> None:
    """The nearest mean colour, whatever the brightness, tells most images' classes: there is something to learn."""
    recipe = Recipe(90, 9, (40, 30))

    def colour(split: str, number: int, label: int) -> np.ndarray:
        mean = np.asarray(drawn(recipe, split, number, label), float).mean((0, 1))
        return mean / mean.sum()

    means = np.array([np.mean([colour("train", 10 * label + i, label) for i in range(10)], 0) for label in range(9)])
    seen = [(label, colour("val", 5 * label + i, label)) for label in range(9) for i in range(5)]
    right = [np.linalg.norm(means - mean, axis=1).argmin() == label for label, mean in seen]
    assert np.mean(right) > 0.6


def test_a_finished_folder_is_left_alone_and_another_refused(made: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*")}
    synthesise(SMALL, made, ignore)
    with pytest.raises(UserError, match="is not this synthetic data set"):
        synthesise(Recipe(12, 3, (30, 40)), made, ignore)
    assert {path: path.stat().st_mtime_ns for path in made.rglob("*")} == before


def test_a_folder_of_something_else_is_kept(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="is not this synthetic data set"):
        synthesise(SMALL, tmp_path, ignore)
    assert contents(tmp_path) == {"thesis.txt": b"years of work"}


def test_what_a_killed_command_wrote_is_kept_and_the_rest_is_written(made: Path, tmp_path: Path) -> None:
    out, part = tmp_path / "out", tmp_path / "out.part"
    code = f"""
import os, signal
from pathlib import Path
from hpcfast.datasets.generate import Recipe, synthesise
synthesise(Recipe(12, 3, (40, 30)), Path({str(out)!r}), lambda done: os.kill(os.getpid(), signal.SIGKILL))
"""
    killed = subprocess.run([sys.executable, "-c", code], check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert not out.exists()
    kept = {path.name: path.stat().st_mtime_ns for path in (part / "train").rglob("*.jpg")}
    assert len(kept) == 12
    synthesise(SMALL, out, ignore)
    assert contents(out) == contents(made)
    assert {path.name: path.stat().st_mtime_ns for path in (out / "train").rglob("*.jpg")} == kept


@pytest.mark.parametrize(
    ("images", "classes", "size", "message"),
    [
        (10, 2, "40", r"--size '40': give width and height"),
        (10, 2, "0x40", r"--size '0x40'"),
        (10, 1, None, r"--images 10 --classes 1: at least 2 classes"),
        (2, 3, None, r"--images 2 --classes 3"),
    ],
)
def test_wrong_wishes_are_refused(images: int, classes: int, size: str | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Recipe.of(images, classes, size)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(UserError, match=r"file/out cannot be written: .*Not a directory"):
        synthesise(SMALL, tmp_path / "file" / "out", ignore)
