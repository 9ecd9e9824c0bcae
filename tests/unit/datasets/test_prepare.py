"""`hpcfast data prepare` writes a data set whole or not at all."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hpcfast.data.reader import read_splits
from hpcfast.datasets.prepare import MANIFEST, prepare
from hpcfast.datasets.sources import Item, Source
from hpcfast.errors import UserError


class Squares(Source):
    """Ten training and four validation images of two classes; raises where ``fails`` says so."""

    fails: int = 99
    error: Any = None

    def items(self) -> Iterator[Item]:
        for i in range(14):
            if i == self.fails:
                raise self.error
            grey = Image.fromarray(np.full((4, 4), 10 * i, np.uint8))
            yield Item("train" if i < 10 else "val", "ab"[i % 2], grey)


SQUARES = Squares(name="squares")


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def ignore(done: int) -> None:
    """No progress is shown."""


def test_it_writes_a_folder_that_training_reads(tmp_path: Path) -> None:
    manifest = prepare(SQUARES, tmp_path / "deep" / "out", ignore)
    assert manifest == {"name": "squares", "images": {"train": 10, "val": 4}}
    assert json.loads((tmp_path / "deep" / "out" / MANIFEST).read_text()) == manifest
    train, val = read_splits(tmp_path / "deep" / "out")
    assert (len(train), len(val)) == (10, 4)
    assert sorted(np.asarray(Image.open(file)).max() for file in train.files) == list(range(0, 100, 10))


def test_progress_counts_the_images(tmp_path: Path) -> None:
    done: list[int] = []
    prepare(SQUARES, tmp_path / "out", done.append)
    assert done == list(range(1, 15))


def test_a_second_call_changes_nothing(tmp_path: Path) -> None:
    first = prepare(SQUARES, tmp_path / "out", ignore)
    before = contents(tmp_path / "out")
    broken = Squares(name="squares", fails=0, error=RuntimeError("not to be read"))
    assert prepare(broken, tmp_path / "out", ignore) == first
    assert contents(tmp_path / "out") == before


@pytest.mark.parametrize("error", [UserError("damaged"), RuntimeError("bug"), KeyboardInterrupt(), OSError("full")])
def test_a_failure_midway_leaves_no_data_set(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(UserError if isinstance(error, OSError) else type(error)):
        prepare(Squares(name="squares", fails=7, error=error), tmp_path / "out", ignore)
    assert not (tmp_path / "out").exists()
    prepare(SQUARES, tmp_path / "out", ignore)
    assert len(contents(tmp_path / "out")) == 15, "what the failed call left must not get in"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_that_holds_something_else_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="exists and is not a prepared squares"):
        prepare(SQUARES, tmp_path / "out", ignore)
    assert contents(tmp_path / "out") == {"thesis.txt": b"years of work"}


@pytest.mark.parametrize("manifest", ['{"name": "digits"}', "[]", "{", "{}"])
def test_another_data_set_is_refused_and_kept(tmp_path: Path, manifest: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / MANIFEST).write_text(manifest)
    with pytest.raises(UserError, match="exists and is not a prepared squares"):
        prepare(SQUARES, tmp_path / "out", ignore)
    assert contents(tmp_path / "out") == {MANIFEST: manifest.encode()}


def test_a_file_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(UserError, match="exists and is not a prepared squares"):
        prepare(SQUARES, tmp_path / "out", ignore)
    assert (tmp_path / "out").read_text() == "a file"


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    prepare(SQUARES, tmp_path / "out", ignore)
    assert len(contents(tmp_path / "out")) == 15


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(UserError, match=r"file/out cannot be written: .*Not a directory"):
        prepare(SQUARES, tmp_path / "file" / "out", ignore)


class Named(Source):
    """An image of a class with the name ``label``, in a file called ``file``."""

    label: str
    file: str

    def items(self) -> Iterator[Item]:
        yield Item("train", self.label, Image.new("L", (4, 4)), self.file)


@pytest.mark.parametrize("part", ["label", "file"])
@pytest.mark.parametrize("name", ["../../../other", "..", ".hidden", "a/b", "a\0b", "a\nb", "/etc/passwd"])
def test_a_damaged_sources_names_cannot_lead_out_of_the_folder(tmp_path: Path, part: str, name: str) -> None:
    names = {"label": "class", "file": "image.png", part: name}
    with pytest.raises(UserError, match="no name of a class or an image"):
        prepare(Named.model_construct(name="named", **names), tmp_path / "deep" / "out", ignore)
    assert not list(tmp_path.rglob("*.png"))
