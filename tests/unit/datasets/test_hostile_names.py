"""Class folders, files and members of archives may be called anything: all that is written of them is read back."""

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hpcfast.data import skips
from hpcfast.data.reader import read_splits
from hpcfast.datasets.packs.write import Recipe, pack
from hpcfast.datasets.prepare import prepare
from hpcfast.datasets.sources import Item, Source
from hpcfast.datasets.verify import verify, write_skips
from hpcfast.errors import UserError
from hpcfast.evaluation.outcomes import Outcomes, table
from hpcfast.export import card
from tests.unit.hostile import WITH_NUL
from tests.unit.stories import SUMMARY, settings

FOLDERS = sorted({text[:200] for text in WITH_NUL if text and not set("/\0") & set(text)} - {".."})
SHOWN = [name for name in FOLDERS if not name.startswith(".")]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A class of every name, in each an image of its name."""
    root = tmp_path_factory.mktemp("hostile") / "data"
    for split, shade in (("train", 50), ("val", 150)):
        for number, name in enumerate(SHOWN):
            folder = root / split / name
            folder.mkdir(parents=True)
            Image.fromarray(np.full((8, 8), shade + number, np.uint8)).save(folder / f"{name}.png")
    return root


def test_folders_and_files_keep_their_names(data: Path) -> None:
    for split in read_splits(data):
        assert list(split.classes) == SHOWN
        assert split.names() == [f"{name}/{name}.png" for name in SHOWN]


def test_a_list_of_bad_images_has_those_that_fit_a_line(data: Path, tmp_path: Path) -> None:
    split = read_splits(data)[1]
    (tmp_path / "skips.txt").write_text(skips.text(replace(split, skips=dict.fromkeys(range(len(split)), "a\nb"))))
    listed = skips.read(tmp_path / "skips.txt")
    assert listed == {f"val/{name}/{name}.png": "a b" for name in SHOWN if skips.fits(name)}


def test_verify_writes_nothing_that_acts(data: Path, tmp_path: Path) -> None:
    images, found = verify(data, lambda done: None)
    assert images == 2 * len(SHOWN)
    assert [each for each in found if each.remedy == "skip"] == []
    write_skips(tmp_path / "skips.txt", found)
    assert not list(data.rglob("X"))


def test_a_pack_keeps_the_names_of_classes(data: Path, tmp_path: Path) -> None:
    pack(data, tmp_path / "pack", Recipe(1, None, 0), lambda done, of: None)
    assert json.loads((tmp_path / "pack" / "manifest.json").read_text())["classes"] == SHOWN
    train, val = read_splits(tmp_path / "pack")
    assert list(train.classes) == SHOWN
    assert all(re.fullmatch(r"shard-\d{6}\.tar/\d{8}\.png", name) for name in val.names())


def test_a_table_of_images_is_read_back(data: Path) -> None:
    split = read_splits(data)[1]
    outcomes = Outcomes(split, np.arange(len(split)), [])
    outcomes.clean[:] = outcomes.predicted[:] = split.labels
    rows = list(csv.DictReader(io.StringIO(table(outcomes), newline="")))
    assert [row["class"] for row in rows] == SHOWN
    assert [row["file"] for row in rows] == split.files


class Hostile(Source):
    """One image, as an archive may have it."""

    label: str = "good"
    image: str = "good.png"

    @classmethod
    def of(cls, label: str, image: str) -> "Hostile":
        return cls.model_construct(name="hostile", source=None, label=label, image=image)

    def items(self):  # type: ignore[no-untyped-def]
        yield Item("train", self.label, b"bytes", self.image)


@pytest.mark.parametrize("text", [*WITH_NUL, "../../up", "/etc/x", "."])
def test_members_of_archives_stay_in_their_folder_or_are_refused(text: str, tmp_path: Path) -> None:
    for number, source in enumerate((Hostile.of(text, "a.png"), Hostile.of("a", text))):
        out = tmp_path / "in" / f"out-{number}"
        try:
            prepare(source, out, lambda done: None)
        except UserError:
            assert not list(tmp_path.glob("*")) or [each.name for each in tmp_path.iterdir()] == ["in"]
            continue
        (file,) = [path for path in out.rglob("*") if path.is_file() and path.name != "dataset.json"]
        assert file.relative_to(out).parts[0] == "train"
        assert len(file.relative_to(out).parts) == 3
        assert [each.name for each in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize("text", [text for text in WITH_NUL if text])
def test_a_models_card_has_names_as_text(text: str, tmp_path: Path) -> None:
    config = settings(tmp_path)
    made = {"format": "state-dict", "bytes": 1, "sha256": "0", "largest_difference": 0.0}
    options = config.model.model_copy(update={"options": {"width": 2, "act_layer": text}})
    config = config.model_copy(update={"model": options})
    shown = card.markdown(Path("/x") / text.replace("/", ""), config, (text,) * 3, SUMMARY, made)
    blocks = re.split(r"^(`{3,})(\w*)$", shown, flags=re.MULTILINE)
    plain = "".join(re.split(r"(?ms)^(`{3,})\w+\n.*?^\1$", shown)[::2])
    assert len(blocks) >= 12
    assert not re.search(r"(?<!\\)(<(script|img)|\]\(javascript)", plain)
    code = re.search(r"(?ms)^```python\n(.*?)^```$", shown)
    assert code is not None
    compile(code[1], "card", "exec")
    assert "touch X" not in re.sub(r'"(\\.|[^"\\])*"|\'(\\.|[^\'\\])*\'', "", code[1])
