"""`hpcfast data prepare images`: one's own images, in the forms that people have them."""

import json
from collections import Counter, defaultdict
from contextlib import suppress
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from PIL import Image

from hpcfast.component import Invalid, validate
from hpcfast.data.reader import read_splits
from hpcfast.datasets.prepare import prepare
from hpcfast.datasets.sources.images import Images, divide
from hpcfast.datasets.sources.labelled import Row
from hpcfast.errors import UserError
from tests.unit.hostile import WITH_NUL


def draw(folder: Path, *names: str) -> Path:
    """Write small images of these names, each of another grey."""
    for number, name in enumerate(names):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4), number % 256, np.uint8)).save(file)
    return folder


def prepared(source: Path, out: Path, **settings: str) -> dict[str, dict[str, list[str]]]:
    """What is written: the files of each class of each split, by their places in the source."""
    prepare(validate(Images, {"name": "images", "source": source, **settings}), out, lambda done: None)
    found: dict[str, dict[str, list[str]]] = defaultdict(dict)
    for split in read_splits(out):
        for label, name in enumerate(split.classes):
            files = [split.files[i] for i in np.flatnonzero(split.labels == label)]
            origin = source if source.is_dir() else source.parent
            found[split.root.name][name] = sorted(
                str(Path(file).resolve().relative_to(origin.resolve())) for file in files
            )
    return found


def refusal(source: Path, tmp_path: Path, **settings: str) -> str:
    with pytest.raises(UserError) as caught:
        prepared(source, tmp_path / "out", **settings)
    return str(caught.value)


def listed(folder: Path, text: str, name: str = "labels.csv") -> Path:
    (folder / name).write_text(text)
    return folder / name


def test_a_folder_of_classes_is_divided(tmp_path: Path) -> None:
    source = draw(tmp_path / "in", *(f"{label}/{i:02}.png" for label in "ab" for i in range(20)))
    found = prepared(source, tmp_path / "out", val="25%")
    assert {split: {label: len(files) for label, files in by.items()} for split, by in found.items()} == {
        "train": {"a": 15, "b": 15},
        "val": {"a": 5, "b": 5},
    }
    assert prepared(source, tmp_path / "again", val="25%") == found
    assert prepared(source, tmp_path / "other", val="25%", seed="1") != found


labels = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9)), min_size=1, max_size=60)


@given(labels, st.floats(0.01, 0.99), st.integers(0, 5), st.booleans(), st.randoms())
def test_every_image_is_in_one_split_and_groups_are_whole(
    given: list[tuple[str, int]], share: float, seed: int, grouped: bool, shuffle: Any
) -> None:
    rows = [Row(f"{i:03}", label, "", f"g{group}" if grouped else "") for i, (label, group) in enumerate(given)]
    splits = dict(zip(rows, divide(rows, share, seed), strict=True))
    other = rows[:]
    shuffle.shuffle(other)
    assert dict(zip(other, divide(other, share, seed), strict=True)) == splits, "the order of the files counts"
    if grouped:
        assert all(len({splits[row] for row in rows if row.group == group}) == 1 for group in {r.group for r in rows})
        return
    counts, val = Counter(row.label for row in rows), Counter(row.label for row in rows if splits[row] == "val")
    for label, n in counts.items():
        assert val[label] == max(1, round(share * n))


def test_a_new_image_moves_few_others() -> None:
    rows = [Row(f"{i:03}", "ab"[i % 2], "", "") for i in range(100)]
    before = dict(zip(rows, divide(rows, 0.2, 0), strict=True))
    more = [*rows, Row("new", "a", "", "")]
    after = dict(zip(more, divide(more, 0.2, 0), strict=True))
    assert sum(before[row] != after[row] for row in rows) <= 1


@pytest.mark.parametrize(
    ("table", "settings"),
    [
        ("images/0.png,a\nimages/1.png,b\nimages/2.png,a\nimages/3.png,b\n", {}),
        ("images/0.png   a   x\nimages/1.png   b  x\nimages/2.png  a x\nimages/3.png  b y\n", {}),
        ("x;images/0.png;a\nx;images/1.png;b\ny;images/2.png;a\nx;images/3.png;b\n", {"labels": "3"}),
        ("File,Class\nimages/0.png,a\nimages/1.png,b\nimages/2.png,a\nimages/3.png,b\n", {}),
        ("\ufeffid\tlabel\timage\n1\ta\timages/0.png\n2\tb\timages/1.png\n3\ta\timages/2.png\n4\tb\timages/3.png", {}),
        ('"images/0.png","a"\r\n"images/1.png","b"\r\n"images/2.png","a"\r\n"images/3.png","b"\r\n', {}),
    ],
    ids=["commas", "blanks", "semicolons", "header", "tabs", "quotes"],
)
def test_a_table_of_labels_is_read(tmp_path: Path, table: str, settings: dict[str, str]) -> None:
    draw(tmp_path, *(f"images/{i}.png" for i in range(4)))
    found = prepared(listed(tmp_path, table), tmp_path / "out", val="50%", **settings)
    assert sorted(found["train"]["a"] + found["val"]["a"]) == ["images/0.png", "images/2.png"]
    assert sorted(found["train"]["b"] + found["val"]["b"]) == ["images/1.png", "images/3.png"]


def test_a_tables_own_split_is_kept(tmp_path: Path) -> None:
    draw(tmp_path, *(f"{i}.png" for i in range(6)))
    rows = ["file,label,split", "0.png,a,train", "1.png,b,train", "2.png,a,test", "3.png,b,test", "4.png,a,validation"]
    source = listed(tmp_path, "\n".join([*rows, "5.png,b,validation"]))
    found = prepared(source, tmp_path / "out")
    assert "left out: 2 images of 'test'" in json.loads((tmp_path / "out" / "dataset.json").read_text())["remarks"]
    assert not (tmp_path / "out" / "test").exists()
    assert found["val"] == {"a": ["4.png"], "b": ["5.png"]}
    assert found["train"] == {"a": ["0.png"], "b": ["1.png"]}


def test_hugging_faces_folder_with_metadata_is_read(tmp_path: Path) -> None:
    draw(tmp_path / "in", *(f"{i}.png" for i in range(4)))
    rows = [{"file_name": f"{i}.png", "label": "ab"[i % 2]} for i in range(4)]
    listed(tmp_path / "in", "\n".join(map(json.dumps, rows)), "metadata.jsonl")
    found = prepared(tmp_path / "in", tmp_path / "out", val="50%")
    assert sorted(found["train"]["a"] + found["val"]["a"]) == ["0.png", "2.png"]


@pytest.mark.parametrize("val", ["val", "validation", "test"])
def test_a_folder_that_is_divided_stays_so(tmp_path: Path, val: str) -> None:
    source = draw(tmp_path / "in", "train/a/0.png", "train/b/1.png", f"{val}/a/2.png", f"{val}/b/3.png")
    found = prepared(source, tmp_path / "out")
    assert found["val"] == {"a": [f"{val}/a/2.png"], "b": [f"{val}/b/3.png"]}


def test_groups_of_a_column_or_of_names_stay_together(tmp_path: Path) -> None:
    names = [f"{label}/p{patient}_{i}.png" for label in "ab" for patient in range(5) for i in range(4)]
    draw(tmp_path / "in", *names)
    table = listed(tmp_path / "in", "file,class,patient\n" + "\n".join(f"{n},{n[0]},{n[2:4]}" for n in names), "l.csv")
    for number, (source, groups) in enumerate(((tmp_path / "in", r"(p\d)_"), (table, "patient"))):
        found = prepared(source, tmp_path / f"out{number}", groups=groups)
        patients = {split: {f[2:4] for files in by.values() for f in files} for split, by in found.items()}
        assert not patients["train"] & patients["val"]
        assert len(patients["val"]) == 1


def test_files_of_the_same_name_in_a_class_are_all_kept(tmp_path: Path) -> None:
    source = draw(tmp_path / "in", *(f"{c}/{d}.png" for c in "ab" for d in ("x/y", "x_y", "2_x_y", "x/z")))
    found = prepared(source, tmp_path / "out", val="1%")
    assert sum(len(files) for by in found.values() for files in by.values()) == 8


def test_other_images_are_not_taken_for_those_that_were_prepared(tmp_path: Path) -> None:
    source = draw(tmp_path / "in", *(f"{label}/{i}.png" for label in "ab" for i in range(5)))
    prepared(source, tmp_path / "out")
    draw(source, "a/new.png")
    assert "made with other listed" in refusal(source, tmp_path)


@pytest.mark.parametrize("text", WITH_NUL)
def test_no_text_of_a_table_acts(tmp_path: Path, text: str) -> None:
    """As a class, a split, a column and a file: it is data, or one message, and nothing lies outside the folder."""
    source, out = draw(tmp_path / "in", "0.png", "1.png", "2.png", "3.png"), tmp_path / "out"
    before = {path for path in tmp_path.rglob("*") if out not in path.parents}
    rows = [{"file_name": f"{i}.png", "label": "ab"[i % 2], "split": ("train", "val")[i // 2]} for i in range(4)]
    for number, change in enumerate(({"label": text}, {"split": text}, {text: "x"}, {"file_name": text})):
        table = listed(
            source, "\n".join(json.dumps(each) for each in [*rows, rows[0] | {"file_name": "3.png"} | change])
        )
        table = table.rename(source / "metadata.jsonl")
        for settings in ({}, {"labels": text}, {"groups": text}):
            with suppress(UserError, Invalid):
                prepared(table, out / f"{number}{len(settings)}{next(iter(settings), '')}", **settings)
    assert {path for path in tmp_path.rglob("*") if out not in path.parents} - before <= {out, table}


@pytest.mark.parametrize("row", ["7", "[1]", "null", '{"file_name": "0.png", "label": null}', '{"file_name": 3}'])
def test_odd_lines_of_json_are_one_message(tmp_path: Path, row: str) -> None:
    draw(tmp_path, "0.png")
    assert "\n" not in refusal(listed(tmp_path, row, "metadata.jsonl"), tmp_path)


def test_files_that_are_no_images_are_counted(tmp_path: Path) -> None:
    source = draw(tmp_path / "in", *(f"{label}/{i}.png" for label in "ab" for i in range(5)))
    (source / "a" / "photo.heic").touch()
    manifest = prepare(Images(name="images", source=source), tmp_path / "out", lambda done: None)
    assert manifest["remarks"] == [f"{source}: 1 files are no images (1 .heic)"]


FAULTS = {
    "one class": (["a/0.png", "a/1.png"], None, {}, ["1 classes (a)", "at least 2"]),
    "nothing": ([], None, {}, ["0 classes (none)"]),
    "an image of a class": (["a/0.png", "b/0.png", "b/1.png"], None, {}, ["no image in train: a", "2 images or more"]),
    "no such column": (["0.png"], "file,x\n0.png,a", {"labels": "y"}, ["labels=y", "columns file, x"]),
    "which column": (["0.png"], "file,x,y2\n0.png,a,b", {}, ["file, x, y2", "labels=y2"]),
    "missing": (["0.png"], "0.png,a\n1.png,b\n2.png,b", {}, ["2 of 3 files are missing: 1.png, 2.png"]),
    "none there": ([], "0.png,a\n1.png,b", {}, ["no column names files", "0.png,a"]),
    "two labels": (["0.png"], "0.png,a\n0.png,b", {}, ["line 2: 0.png is 'b', and 'a' above"]),
    "one file under two names": (["0.png"], "0.png,a\n./0.png,b", {}, ["line 2: 0.png is 'b'"]),
    "a class that is no folder": (["0.png"], "0.png,n/a", {}, ["line 1: 'n/a' cannot be a folder's name"]),
    "no label": (["0.png"], "0.png,a\n0.png,", {}, ["line 2"]),
    "outside": (["0.png"], "0.png,a\n../../etc/x.png,b", {}, ["1 of 2 files lie outside its folder: ../../etc/x.png"]),
    "empty": ([], "", {}, ["no column names files"]),
    "uneven": (["0.png"], "0.png,a\n0.png,a,b", {}, ["different numbers of columns"]),
    "a group a class": (["a/0.png", "a/1.png", "b/0.png"], None, {"groups": "(.)/"}, ["no image in", "smaller groups"]),
    "groups of nothing": (["a/0.png", "b/1.png"], None, {"groups": "(z)"}, ["groups=(z)", "finds nothing in a/0.png"]),
    "groups without a table": (["a/0.png", "b/1.png"], None, {"groups": "who"}, ["groups=who", "no table"]),
    "no known split": (["0.png", "1.png"], "f,label,split\n0.png,a,x\n1.png,b,x", {}, ["no image in train"]),
}


@pytest.mark.parametrize(("files", "table", "settings", "said"), FAULTS.values(), ids=FAULTS)
def test_what_is_wrong_with_a_source_is_one_message(
    tmp_path: Path, files: list[str], table: str | None, settings: dict[str, str], said: list[str]
) -> None:
    source = tmp_path / "in"
    source.mkdir()
    draw(source, *files)
    message = refusal(source if table is None else listed(source, table, "t.csv"), tmp_path, **settings)
    assert all(words in message for words in said), message
    assert "\n" not in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("wrong", [{"val": "0%"}, {"val": "20"}, {"val": "100%"}, {"seed": "-1"}, {"groups": "(a"}])
def test_wrong_settings_are_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(Invalid):
        validate(Images, {"name": "images", **wrong})


def test_ten_thousand_classes_are_listed(tmp_path: Path) -> None:
    source = tmp_path / "in"
    for label in range(10_000):
        (source / f"{label:05}").mkdir(parents=True)
        for i in range(2):
            (source / f"{label:05}" / f"{i}.png").touch()
    images = Images(name="images", source=source)
    assert Counter(item.split for item in images.items()) == {"train": 10_000, "val": 10_000}
