"""Which files are read as images of which class, and that nothing is left out without a word."""

import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from hpcfast.data import dataset
from hpcfast.data.folder import images_below
from hpcfast.data.images import SUFFIXES
from hpcfast.data.reader import read_splits
from hpcfast.distributed.comm import World
from hpcfast.errors import UserError
from hpcfast.training import train
from tests.conftest import write_images
from tests.unit.data.test_bad_files import Tiny


@pytest.fixture
def deep(tmp_path: Path) -> Path:
    """Two classes: one flat, one whose images are below it, of every suffix that is read, beside other files."""
    root = write_images(tmp_path / "deep", {"train": 12, "val": 3}, classes=2)
    for split in ("train", "val"):
        place = root / split / "class1" / "2024" / "may"
        place.mkdir(parents=True)
        for number, suffix in enumerate(SUFFIXES):
            Image.new("L", (10, 10), number).save(place / f"x{suffix.upper()}", "PNG")
        (place / "y.heic").write_bytes(b"\0" * 9)
        (root / split / "class1" / "notes.txt").write_text("of the day")
    return root


def test_images_of_every_suffix_are_read_at_any_depth(deep: Path) -> None:
    train_split, val = read_splits(deep)
    assert len(train_split) == 2 * 12 + len(SUFFIXES)
    assert len(val) == 2 * 3 + len(SUFFIXES)
    assert [*train_split.labels] == [0] * 12 + [1] * (12 + len(SUFFIXES))
    assert train_split.files == sorted(train_split.files)
    assert "class1/2024/may/x.PNG" in train_split.names()


def test_torchvision_reads_the_same_files_in_the_same_order(deep: Path) -> None:
    from torchvision.datasets import ImageFolder
    from torchvision.datasets.folder import IMG_EXTENSIONS

    theirs = [path for path, _ in ImageFolder(str(deep / "train")).samples]
    ours = [file for file in read_splits(deep)[0].files if file.lower().endswith(IMG_EXTENSIONS)]
    assert {*IMG_EXTENSIONS} <= {*SUFFIXES}
    assert ours == theirs


def test_hidden_folders_and_files_are_no_data(deep: Path) -> None:
    before = read_splits(deep)[0].files
    for hidden in (deep / "train" / ".ipynb_checkpoints", deep / "train" / "class0" / ".ipynb_checkpoints"):
        hidden.mkdir()
        shutil.copy(deep / "train" / "class0" / "000.png", hidden / "000-checkpoint.png")
    (deep / "train" / "class0" / "._000.png").write_bytes(b"of a Mac")
    split = read_splits(deep)[0]
    assert (split.files, split.classes) == (before, ("class0", "class1"))


def test_a_link_into_a_folder_above_ends(tmp_path: Path) -> None:
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "other").symlink_to(tmp_path / "loop")
    assert images_below(str(tmp_path))[0] == [f"{tmp_path}/a.png"]


def test_what_is_not_read_is_counted_by_kind(deep: Path) -> None:
    (deep / "val" / "loose.png").write_bytes(b"beside the classes")
    train_split, val = read_splits(deep)
    assert dict(train_split.unread) == {".heic": 1, ".txt": 1}
    assert dict(val.unread) == {".heic": 1, ".txt": 1, ".png": 1}


def test_training_says_what_it_does_not_read(
    deep: Path, tiny: Tiny, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    train.train(tiny(f"data.path={deep}", "epochs=1"), world)
    out = capsys.readouterr().out
    for split in ("train", "val"):
        assert f"{deep / split}: 2 files are not read (1 .heic, 1 .txt)" in out


def test_a_class_of_unreadable_kinds_is_refused(tmp_path: Path) -> None:
    root = write_images(tmp_path / "data", {"train": 2, "val": 2}, classes=3)
    for file in (root / "train" / "class1").iterdir():
        file.rename(file.with_suffix(".heic"))
    with pytest.raises(UserError, match=r"train/class1 holds no image \(\.jpg, "):
        read_splits(root)


def test_names_that_are_not_utf8_are_trained_on_and_kept(
    tmp_path: Path, tiny: Tiny, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_images(tmp_path / "data", {"train": 10, "val": 4}, classes=3)
    for split in ("train", "val"):
        odd = os.fsdecode(b"m\xfcnchen.png")
        (root / split / "class0" / "000.png").rename(root / split / "class0" / odd)
        (root / split / "class1").rename(root / split / os.fsdecode(b"stra\xdfe"))
    config = tiny(f"data.path={root}", "epochs=1")
    summary = train.train(config, world)
    assert summary["n_eval"] == 12
    (table,) = config.folder.glob("evaluations/*/images.csv")
    assert b"m\xfcnchen.png" in table.read_bytes()
    assert "stra\\udcdfe" in (config.folder / "model.json").read_text()


def test_held_out_images_and_the_rest_are_all_images_once(deep: Path) -> None:
    train_split, _ = read_splits(deep)
    for count, expected in ((5, 5), (None, len(train_split) // 10)):
        rest, held = dataset.hold_out(train_split, count)
        assert len(held) == expected
        assert sorted(rest.files + held.files) == train_split.files
        assert len({*held.labels}) == 2, "of both classes"
