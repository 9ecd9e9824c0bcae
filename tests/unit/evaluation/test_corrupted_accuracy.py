"""Accuracy on a folder of corrupted images."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from hpcfast.config import RunConfig
from hpcfast.data.folder import read_split
from hpcfast.datasets.corrupt import MANIFEST
from hpcfast.distributed.comm import World
from hpcfast.errors import UserError
from hpcfast.evaluation.corruptions import _right, measure
from hpcfast.evaluation.interval import interval
from tests.unit.corrupting import CLASSES, NAMES, SEVERITIES, values

Tiny = Callable[..., RunConfig]


class Edges(nn.Module):
    """Guesses the brightest edge, which is the class in ``write_images``, from a pixel of each."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack((x[:, 0, 4, 9], x[:, 0, 0, 4], x[:, 0, 4, 0]), 1)


def expected(part: Path) -> float:
    """Accuracy of ``Edges``, image by image."""
    right = []
    for file in sorted(part.rglob("*.png")):
        x = torch.tensor(values(Image.open(file)), dtype=torch.float32)[None, None]
        right.append(CLASSES[Edges()(x).argmax()] == file.parent.name)
    return float(np.mean(right))


def test_each_part_is_measured(tiny: Tiny, made: Path, world: World, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made, tmp_path / "copy"))
    (folder / "contrast" / "5" / "class0" / "000.png").unlink()
    seen: list[int] = []
    found = measure(Edges(), folder, CLASSES, tiny(), world, seen.append)
    parts = [(name, severity) for name in NAMES for severity in SEVERITIES]
    assert [(row["corruption"], row["severity"], row["n"]) for row in found["rows"]] == [
        (*part, 12 - (part == ("contrast", 5))) for part in parts
    ]
    for row in found["rows"]:
        assert row["accuracy"] == expected(folder / row["corruption"] / str(row["severity"]))
        assert row["ci95"] == interval(round(row["accuracy"] * row["n"]), row["n"])
    accuracies = [row["accuracy"] for row in found["rows"]]
    assert min(accuracies) < max(accuracies), "choose corruptions that matter"
    assert found["by_corruption"] == pytest.approx(
        {"contrast": np.mean(accuracies[:2]), "gaussian_noise": np.mean(accuracies[2:])}
    )
    assert found["mean"] == pytest.approx(np.average(accuracies, weights=[12, 11, 12, 12]))
    assert seen == sorted(seen)
    assert seen[-1] == 47


@pytest.mark.parametrize("ranks", [2, 5, 13])
def test_ranks_together_measure_what_one_measures(ranks: int, tiny: Tiny, made: Path, world: World) -> None:
    split = read_split(made / "gaussian_noise" / "5")
    calls: list[list[int]] = [[] for _ in range(ranks)]
    everyone = [World(rank, ranks, 0, 1) for rank in range(ranks)]
    config = tiny("evaluation.batch_size=5")
    rights = [_right(Edges(), split, config, each, 7, calls[each.rank].append) for each in everyone]
    assert [sum(right for right, _ in rights), len(split)] == _right(
        Edges(), split, config, world, 0, lambda done: None
    )
    assert len({len(each) for each in calls}) == 1, "each call may be a collective"


class Corner(nn.Module):
    """Class 0 where the corner is white."""

    def forward(self, x: Tensor) -> Tensor:
        white = x[:, 0, 0, 0] - 0.99
        return torch.stack((white, -white), 1)


@pytest.mark.parametrize(("ours", "accuracy"), [(True, 0.5), (False, 1.0)])
def test_published_images_are_not_cropped_again(
    ours: bool, accuracy: float, tiny: Tiny, world: World, tmp_path: Path
) -> None:
    for label in (0, 1):
        part = tmp_path / "fog" / "3" / str(label)
        part.mkdir(parents=True)
        pixels = np.zeros((16, 16), np.uint8)
        pixels[:, 0] = 255 * (label == 0)
        Image.fromarray(pixels).save(part / "a.png")
    if ours:
        (tmp_path / MANIFEST).write_text("{}")
    config = tiny("data.size=16", "data.augment=resized_crop_flip")
    assert measure(Corner(), tmp_path, ("0", "1"), config, world)["mean"] == accuracy


def remove(path: str) -> Callable[[Path], Any]:
    return lambda root: shutil.rmtree(root / path)


def empty_class(root: Path) -> None:
    for file in (root / "contrast" / "1" / "class1").iterdir():
        file.unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (remove("."), r"--corruptions: no folder .*copy; make one with 'hpcfast data corrupt'"),
        (lambda root: [shutil.rmtree(root / name) for name in NAMES], r"no folder 1, 2, 3, 4 or 5 .* in it"),
        (lambda root: (root / "train" / "class0").mkdir(parents=True), r"no folder 1, 2, 3, 4 or 5 .* in train\."),
        (remove("contrast/5/class1"), r"contrast/5 and .*contrast/1 must have the same classes; .*: class1\."),
        (
            lambda root: (root / "contrast/1/cat").mkdir(),
            r"contrast/5 and .*contrast/1 must have the same classes; .*: cat\.",
        ),
        (empty_class, r"--corruptions: class folder .*contrast/1/class1 holds no image"),
    ],
)
def test_a_folder_that_is_none_of_corruptions_is_refused(
    damage: Callable[[Path], Any], message: str, tiny: Tiny, made: Path, world: World, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(made, tmp_path / "copy"))
    damage(folder)
    with pytest.raises(UserError, match=message):
        measure(Edges(), folder, CLASSES, tiny(), world)


def test_bad_images_are_left_out_of_a_part_and_all_bad_are_refused(
    tiny: Tiny, made: Path, world: World, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(made, tmp_path / "copy"))
    files = sorted((folder / "contrast" / "5").rglob("*.png"))
    for file in (files[0], files[7]):
        file.write_bytes(b"no image")
    row = measure(Edges(), folder, CLASSES, tiny("evaluation.batch_size=5"), world)["rows"][1]
    right = [CLASSES[Edges()(pixels(file)).argmax()] == file.parent.name for file in files if file.stat().st_size > 8]
    assert (row["corruption"], row["severity"], row["n"], len(right)) == ("contrast", 5, 10, 10)
    assert row["accuracy"] == np.mean(right)
    for file in files:
        file.write_bytes(b"")
    with pytest.raises(UserError, match=r"12 of 12 images are bad, more than 10: .* is empty"):
        measure(Edges(), folder, CLASSES, tiny(), world)


def pixels(file: Path) -> Tensor:
    return torch.tensor(values(Image.open(file)), dtype=torch.float32)[None, None]
