"""Common corruptions: what they do to pixels, the folder that holds them, the accuracy on it."""

import colorsys
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image
from torch import Tensor, nn
from typer.testing import CliRunner

from hpcfast import cli
from hpcfast.comm import World
from hpcfast.config import RunConfig
from hpcfast.data.corrupt import MANIFEST, Plan, corrupt
from hpcfast.data.corruptions import CORRUPTIONS, SEVERITIES, corrupted
from hpcfast.data.folder import read_split
from hpcfast.errors import UserError
from hpcfast.evaluate import interval
from hpcfast.evaluate.corruptions import _right, measure

Tiny = Callable[..., RunConfig]
FEW = Plan(("contrast", "gaussian_noise"), (1, 5), seed=3)
CLASSES = ("class0", "class1", "class2")


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def photo(size: int, mode: str = "RGB") -> Image.Image:
    """A temple."""
    image = Image.fromarray(load_sample_image("china.jpg")).crop((100, 0, 520, 420))
    return image.resize((size + 4, size)).convert(mode)


def values(image: Image.Image) -> np.ndarray:
    return np.asarray(image) / 255


def grey(size: int = 300) -> Image.Image:
    return Image.new("RGB", (size, size), (128, 128, 128))


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("size", [28, 100])
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_severer_is_farther_from_the_image(name: str, size: int, mode: str) -> None:
    image = photo(size, mode)
    done = [corrupted(image, name, severity, rng()) for severity in SEVERITIES]
    assert {(each.size, each.mode) for each in done} == {(image.size, mode)}
    distances = [np.abs(values(each) - values(image)).mean() for each in done]
    assert 0 < distances[0] < distances[2] < distances[4]


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_same_random_numbers_same_image(name: str) -> None:
    first, again, other = (corrupted(photo(28), name, 3, rng(seed)) for seed in (0, 0, 1))
    assert first.tobytes() == again.tobytes()
    assert (first.tobytes() != other.tobytes()) == name.endswith("noise")


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("side", [1, 2, 64, 65])
def test_any_size_will_do(name: str, side: int) -> None:
    assert corrupted(Image.new("L", (side, side + 1), 99), name, 5, rng()).size == (side, side + 1)


def test_noises_are_as_strong_as_published() -> None:
    x = 128 / 255
    gaussian, shot, impulse = (
        values(corrupted(grey(), name, 1, rng())) for name in ("gaussian_noise", "shot_noise", "impulse_noise")
    )
    assert (gaussian.mean(), gaussian.std()) == pytest.approx((x, 0.08), rel=0.01)
    assert (shot.mean(), shot.std()) == pytest.approx((x, (x / 60) ** 0.5), rel=0.01)
    assert (impulse == 0).mean() == pytest.approx(0.015, rel=0.05)
    assert (impulse == 1).mean() == pytest.approx(0.015, rel=0.05)


def test_a_blur_is_a_gaussian() -> None:
    pixels = np.zeros((101, 101), np.uint8)
    pixels[45:56, 45:56] = 255  # eleven wide: variance 10
    rows = values(corrupted(Image.fromarray(pixels), "gaussian_blur", 3, rng())).sum(0)
    assert np.average((np.arange(101) - 50) ** 2, weights=rows) == pytest.approx(10 + 3**2, rel=0.02)


def test_brightness_is_that_of_hsv() -> None:
    before, after = photo(28), corrupted(photo(28), "brightness", 5, rng())
    for old, new in zip(values(before).reshape(-1, 3), values(after).reshape(-1, 3), strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*old)
        assert new == pytest.approx(colorsys.hsv_to_rgb(hue, saturation, min(1, value + 0.3)), abs=0.51 / 255)
    assert corrupted(Image.new("RGB", (2, 2)), "brightness", 3, rng()).getpixel((0, 0)) == (38, 38, 38)


def test_contrast_keeps_the_mean() -> None:
    before, after = values(photo(28)), values(corrupted(photo(28), "contrast", 2, rng()))
    assert after.mean((0, 1)) == pytest.approx(before.mean((0, 1)), abs=1 / 255)
    assert after.std((0, 1)) == pytest.approx(before.std((0, 1)) / 2, rel=0.02)


def ignore(done: int) -> None:
    """No progress is shown."""


def pngs(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*.png")}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, images: Path) -> Path:
    """FEW of all validation images; don't write into it."""
    out = tmp_path_factory.mktemp("corrupted") / "deep" / "out"
    done: list[int] = []
    corrupt(images, out, FEW, None, done.append)
    assert done == list(range(1, 13))
    return out


def test_the_layout_is_imagenet_cs(made: Path, images: Path) -> None:
    assert [path.name for path in made.parent.iterdir()] == ["out"]
    files = [f"{label}/00{i}.png" for label in CLASSES for i in range(4)]
    expected = {f"{name}/{severity}/{file}" for name in FEW.names for severity in FEW.severities for file in files}
    assert pngs(made).keys() == expected
    assert {path.name for path in made.iterdir()} == {*FEW.names, MANIFEST}
    manifest = json.loads((made / MANIFEST).read_text())
    assert {key: manifest[key] for key in ("corruptions", "severities", "seed", "images")} == {
        "corruptions": list(FEW.names), "severities": [1, 5], "seed": 3, "images": 12,
    }  # fmt: skip


def test_a_file_depends_on_its_image_name_corruption_severity_and_seed_alone(
    made: Path, images: Path, tmp_path: Path
) -> None:
    one = FEW._replace(names=("gaussian_noise",), severities=(5,))
    corrupt(images, tmp_path / "one", one, 3, ignore)
    found = pngs(tmp_path / "one")
    assert len(found) == 3
    assert found == {name: pngs(made)[name] for name in found}
    file = "class1/002.png"
    with Image.open(images / "val" / file) as image:
        expected = corrupted(image, "gaussian_noise", 5, FEW.rng("gaussian_noise", 5, file))
    assert Image.open(made / "gaussian_noise" / "5" / file).tobytes() == expected.tobytes()
    others = [FEW.rng("gaussian_noise", 5, "class1/003.png"), FEW.rng("gaussian_noise", 1, file),
              FEW.rng("contrast", 5, file), FEW._replace(seed=4).rng("gaussian_noise", 5, file)]  # fmt: skip
    assert len({FEW.rng("gaussian_noise", 5, file).random(), *(other.random() for other in others)}) == 5


def test_a_finished_folder_is_left_as_it_is(made: Path, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpcfast.data.corrupt._write", None)
    before = pngs(made)
    assert corrupt(images, made, FEW, None, ignore)["images"] == 12
    assert pngs(made) == before


KILLED = """
import os, signal, sys
from pathlib import Path
from hpcfast.data.corrupt import Plan, corrupt
plan = Plan(("contrast", "gaussian_noise"), (1, 5), seed=3)
corrupt(Path(sys.argv[1]), Path(sys.argv[2]), plan, None, lambda done: os.kill(os.getpid(), signal.SIGKILL))
"""


def test_what_was_killed_goes_on(made: Path, images: Path, tmp_path: Path) -> None:
    out, part = tmp_path / "out", tmp_path / "out.part"
    # Returns when nobody has its pipe any more: workers that outlive their parent hang the test.
    done = subprocess.run([sys.executable, "-c", KILLED, images, out], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done
    assert not out.exists()
    kept = part / "contrast" / "1" / "class0" / "000.png"
    torn = part / "contrast" / "5" / "class0" / "000.png"
    inode = kept.stat().st_ino
    torn.rename(torn.with_suffix(".half")).write_bytes(b"what a kill leaves")
    with pytest.raises(UserError, match=r"out\.part holds something else .* \(made with other seed\)"):
        corrupt(images, out, FEW._replace(seed=4), None, ignore)
    corrupt(images, out, FEW, None, ignore)
    assert pngs(out) == pngs(made)
    assert not list(out.rglob("*.half"))
    assert (out / kept.relative_to(part)).stat().st_ino == inode, "done before, done again"
    assert not part.exists()


def deep(path: Path) -> None:
    Image.new("I;16", (10, 10)).save(path)


def torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:80])


@pytest.mark.parametrize("damage", [deep, torn])
def test_an_image_that_cannot_be_read_is_named(images: Path, tmp_path: Path, damage: Callable[[Path], None]) -> None:
    data = Path(shutil.copytree(images, tmp_path / "data"))
    damage(data / "val" / "class2" / "003.png")
    with pytest.raises(UserError, match=r"class2/003\.png cannot be read: .*remove it"):
        corrupt(data, tmp_path / "out", FEW._replace(names=("contrast",)), None, ignore)
    assert not (tmp_path / "out").exists()


def test_two_images_of_one_name_are_refused(images: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(images, tmp_path / "data"))
    shutil.copy(data / "val" / "class0" / "000.png", data / "val" / "class0" / "000.bmp")
    with pytest.raises(UserError, match=r"000\.bmp and .*000\.png would both become class0/000\.png"):
        corrupt(data, tmp_path / "out", FEW, None, ignore)


@pytest.mark.parametrize("what", ["thesis", "file", "other plan"])
def test_what_is_there_is_kept(what: str, made: Path, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    if what == "file":
        out.write_text("years of work")
    else:
        out.mkdir()
        (out / (MANIFEST if what == "other plan" else "thesis.txt")).write_text('{"seed": 1}')
    with pytest.raises(UserError, match="holds something else than these corruptions"):
        corrupt(images, out, FEW, None, ignore)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert out.is_file() or len(list(out.iterdir())) == 1


def test_a_place_that_cannot_be_written_is_named(images: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(UserError, match=r"--out .*file/out cannot be written: .*Not a directory"):
        corrupt(images, tmp_path / "file" / "out", FEW, None, ignore)


def test_the_command_writes_what_it_is_told_to(images: Path, tmp_path: Path) -> None:
    out, numbers = tmp_path / "out", tmp_path / "numbers.json"
    options = ["--names", "pixelate, contrast", "--severities", "5,1", "--images", "3", "--json", str(numbers)]
    done = CliRunner().invoke(cli.app, ["data", "corrupt", str(images), "--out", str(out), *options])
    assert done.exit_code == 0, done.output
    assert "3 images, 2 corruptions at 2 severities" in done.output
    assert json.loads(numbers.read_text())["corruptions"] == ["contrast", "pixelate"]
    assert len(pngs(out)) == 12


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--names", "contrasts"], r"--names: 'contrasts' is not one of: .*did you mean 'contrast'"),
        (["--names", ""], r"--names: '' is not one of"),
        (["--severities", "0"], r"--severities: '0' is not one of: 1, 2, 3, 4, 5"),
        (["--severities", "1;2"], r"--severities: '1;2' is not one of"),
        (["--images", "2"], r"--images 2: too few for 3 classes in .*val; give more"),
        (["--images", "0"], r"--images 0: too few"),
        (["--images", "-4"], r"--images -4: too few"),
        (["--seed", "-1"], r"--seed -1: give 0 or more"),
    ],
)
def test_a_wrong_option_is_refused(images: Path, tmp_path: Path, options: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        CliRunner().invoke(
            cli.app, ["data", "corrupt", str(images), "--out", str(tmp_path / "out"), *options], catch_exceptions=False
        )
    assert not list(tmp_path.iterdir())


def test_a_folder_without_val_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"DATA: no folder .*nowhere/val\. .*hpcfast data prepare"):
        corrupt(tmp_path / "nowhere", tmp_path / "out", FEW, None, ignore)


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
    parts = [(name, severity) for name in FEW.names for severity in FEW.severities]
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
    rights = [_right(Edges(), split, tiny(), World(rank, ranks, 0, 1), 7, calls[rank].append) for rank in range(ranks)]
    assert sum(rights) == _right(Edges(), split, tiny(), world, 0, ignore)
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
        (lambda root: [shutil.rmtree(root / name) for name in FEW.names], r"no folder 1, 2, 3, 4 or 5 .* in it"),
        (lambda root: (root / "train" / "class0").mkdir(parents=True), r"no folder 1, 2, 3, 4 or 5 .* in train\."),
        (remove("contrast/5/class1"), r"contrast/5 must have the classes of the model; .*: class1\."),
        (lambda root: (root / "contrast/1/cat").mkdir(), r"contrast/1 must have the classes .*: cat\."),
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
