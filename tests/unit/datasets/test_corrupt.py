"""The folder that holds corrupted images."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from hpcfast import cli
from hpcfast.config import RunConfig
from hpcfast.datasets.corrupt import MANIFEST, corrupt, rng
from hpcfast.datasets.corruptions import corrupted
from hpcfast.errors import UserError
from tests.unit.corrupting import CLASSES, NAMES, SEVERITIES, few, pngs

Tiny = Callable[..., RunConfig]


def test_the_layout_is_imagenet_cs(made: Path, images: Path) -> None:
    assert [path.name for path in made.parent.iterdir()] == ["out"]
    files = [f"{label}/00{i}.png" for label in CLASSES for i in range(4)]
    expected = {f"{name}/{severity}/{file}" for name in NAMES for severity in SEVERITIES for file in files}
    assert pngs(made).keys() == expected
    assert {path.name for path in made.iterdir()} == {*NAMES, MANIFEST}
    manifest = json.loads((made / MANIFEST).read_text())
    assert {key: manifest[key] for key in ("corruptions", "severities", "seed", "images")} == {
        "corruptions": list(NAMES), "severities": [1, 5], "seed": 0, "images": 12,
    }  # fmt: skip


def test_a_file_depends_on_its_image_name_corruption_and_severity_alone(
    made: Path, images: Path, tmp_path: Path
) -> None:
    corrupt(images, tmp_path / "one", 3, names=("gaussian_noise",), severities=(5,))
    found = pngs(tmp_path / "one")
    assert len(found) == 3
    assert found == {name: pngs(made)[name] for name in found}
    file = "class1/002.png"
    with Image.open(images / "val" / file) as image:
        expected = corrupted(image, "gaussian_noise", 5, rng("gaussian_noise", 5, file))
    assert Image.open(made / "gaussian_noise" / "5" / file).tobytes() == expected.tobytes()
    others = [rng("gaussian_noise", 5, "class1/003.png"), rng("gaussian_noise", 1, file), rng("contrast", 5, file)]
    assert len({rng("gaussian_noise", 5, file).random(), *(other.random() for other in others)}) == 4


def test_a_finished_folder_is_left_as_it_is(made: Path, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpcfast.datasets.corrupt.work_on", None)
    before = pngs(made)
    assert few(images, made)["images"] == 12
    assert pngs(made) == before


KILLED = """
import os, signal, sys
from pathlib import Path
from hpcfast.datasets.corrupt import corrupt
few = {"names": ("contrast", "gaussian_noise"), "severities": (1, 5)}
corrupt(Path(sys.argv[1]), Path(sys.argv[2]), None, lambda done: os.kill(os.getpid(), signal.SIGKILL), **few)
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
    torn.rename(torn.with_name("000.png.0f1e2d3c.part")).write_bytes(b"what a kill leaves")
    with pytest.raises(UserError, match=r"out\.part exists and is not .*\(made with other images, files, contents\)"):
        few(images, out, 6)
    few(images, out)
    assert pngs(out) == pngs(made)
    assert not list(out.rglob("*.part"))
    assert (out / kept.relative_to(part)).stat().st_ino == inode, "done before, done again"
    assert not part.exists()


def floats(path: Path) -> None:
    Image.new("F", (10, 10)).save(path, "TIFF")


def torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:80])


@pytest.mark.parametrize("damage", [floats, torn])
def test_an_image_that_cannot_be_read_is_named(images: Path, tmp_path: Path, damage: Callable[[Path], None]) -> None:
    data = Path(shutil.copytree(images, tmp_path / "data"))
    damage(data / "val" / "class2" / "003.png")
    with pytest.raises(UserError, match=r"class2/003\.png cannot be read: .*remove it"):
        corrupt(data, tmp_path / "out", names=("contrast",))
    assert not (tmp_path / "out").exists()


def test_two_images_of_one_name_are_refused(images: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(images, tmp_path / "data"))
    shutil.copy(data / "val" / "class0" / "000.png", data / "val" / "class0" / "000.bmp")
    with pytest.raises(UserError, match=r"000\.bmp and .*000\.png would both become class0/000\.png"):
        few(data, tmp_path / "out")


@pytest.mark.parametrize("what", ["thesis", "file", "other plan"])
def test_what_is_there_is_kept(what: str, made: Path, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    if what == "file":
        out.write_text("years of work")
    else:
        out.mkdir()
        (out / (MANIFEST if what == "other plan" else "thesis.txt")).write_text('{"seed": 1}')
    with pytest.raises(UserError, match="exists and is not these corruptions"):
        few(images, out)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert out.is_file() or len(list(out.iterdir())) == 1


def test_a_place_that_cannot_be_written_is_named(images: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(UserError, match=r"file/out cannot be written: .*Not a directory"):
        few(images, tmp_path / "file" / "out")


def test_the_command_writes_what_it_is_told_to(images: Path, tmp_path: Path) -> None:
    out, numbers = tmp_path / "out", tmp_path / "numbers.json"
    options = ["--names", "pixelate, contrast", "--severities", "5,1", "--images", "3", "--json", str(numbers)]
    done = CliRunner().invoke(cli.app, ["data", "corrupt", str(images), "--out", str(out), *options])
    assert done.exit_code == 0, done.output
    assert "3 images, 2 corruptions at 2 severities" in done.output
    assert json.loads(numbers.read_text())["corruptions"] == ["contrast", "pixelate"]
    assert len(pngs(out)) == 3 * 2 * 2


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
        few(tmp_path / "nowhere", tmp_path / "out")


def test_names_that_are_no_utf_8_are_kept(images: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(images, tmp_path / "odd"))
    (data / "val" / "class0").rename(data / "val" / os.fsdecode(b"image\xe9"))
    corrupt(data, tmp_path / "out", names=("contrast",), severities=(1,))
    assert len(list((tmp_path / "out" / "contrast" / "1" / os.fsdecode(b"image\xe9")).iterdir())) == 4
