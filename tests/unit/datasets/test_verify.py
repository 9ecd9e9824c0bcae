"""`hpcfast data verify`: what it finds in files and folders, and the list that training takes."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from hpcfast import cli
from hpcfast.data import skips
from hpcfast.data.reader import read_splits
from hpcfast.datasets.packs.write import Recipe, pack
from hpcfast.datasets.verify import Found, examine, verify
from hpcfast.errors import UserError
from tests.unit import loading
from tests.unit.damaged import BAD, GOOD, JPEG, ODD, write


def run(*args: object) -> Result:
    return CliRunner().invoke(cli.app, ["data", "verify", *map(str, args)])


def check(root: Path) -> list[Found]:
    return verify(root, lambda done: None)[1]


def rows(found: list[Found], remedy: str) -> set[tuple[str, str]]:
    return {(each.name, each.kind) for each in found if each.remedy == remedy}


@pytest.fixture
def data(images: Path, tmp_path: Path) -> Path:
    """A copy of a data set that is in order."""
    return Path(shutil.copytree(images, tmp_path / "data"))


def test_ranks_that_would_all_do_the_same_are_refused(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "1")
    with pytest.raises(UserError, match="without mpirun"):
        CliRunner().invoke(cli.app, ["data", "verify", str(data)], catch_exceptions=False)
    assert not (data / "skips.txt").exists()


@pytest.mark.parametrize("name", GOOD | ODD)
def test_a_good_file_has_no_fault(tmp_path: Path, name: str) -> None:
    write(tmp_path, {name: (GOOD | ODD)[name]})
    assert examine(str(tmp_path / name))[0] == ""


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_known_for_what_it_is(tmp_path: Path, name: str) -> None:
    content, kind, _ = BAD[name]
    write(tmp_path, {name: content})
    assert examine(str(tmp_path / name))[0] == kind


def test_links_and_what_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "gone.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "folder.jpg").mkdir()
    for name, kind in {"gone.jpg": "dangling link", "folder.jpg": "unreadable", "vanished.jpg": "unreadable"}.items():
        assert examine(str(tmp_path / name))[0] == kind, name
    (tmp_path / "gone.jpg").with_name("nowhere.jpg").write_bytes(JPEG)
    assert examine(str(tmp_path / "gone.jpg"))[0] == ""


def test_what_is_left_out_is_what_dali_cannot_read_and_no_more(data: Path) -> None:
    good = write(data / "train" / "class0", GOOD | ODD)
    write(data / "train" / "class1", {name: content for name, (content, _, _) in BAD.items()})
    (data / "val" / "class2" / "gone.png").symlink_to("nowhere.png")
    done = run(data)
    assert isinstance(done.exception, UserError), done.output
    listed = (data / "skips.txt").read_text().splitlines()[1:]
    bad = {f"train/class1/{name}" for name in BAD} | {"val/class2/gone.png"}
    assert {line.split("\t")[0] for line in listed} == bad
    train, _ = read_splits(data)
    read = loading.by_id(loading.read(loading.settings(data, 16), ids=train.good, batch=1))
    assert len(read) == 24 + len(GOOD) + len(ODD)
    assert len(list(good.iterdir())) == 8 + len(GOOD) + len(ODD)


def test_faults_of_folders_can_only_be_mended(data: Path) -> None:
    shutil.rmtree(data / "val" / "class0")
    write(data / "val" / "other", {"a.jpg": JPEG})
    write(data / "train" / "class1" / "inner", {"a.jpg": GOOD["b.JPEG"]})
    write(data / "train" / "class1", {"notes.txt": b"none"})
    for file in (data / "train" / "class2").iterdir():
        file.write_bytes(b"")
    images, found = verify(data, lambda done: None)
    assert rows(found, "mend") == {
        ("val/class0", "missing class"), ("train/other", "missing class"), ("train/class2", "empty class"),
        ("train/class1", "not read"),
    }  # fmt: skip
    (reason,) = [each.reason for each in found if each.kind == "not read"]
    assert reason.startswith("1 .txt, first train/class1/notes.txt; images end in .jpg, ")
    assert images == 24 + 8 + 2


def test_a_folder_that_is_no_data_set_is_refused(data: Path, tmp_path: Path) -> None:
    (data / "val" / "other").mkdir()
    with pytest.raises(UserError, match=r"DATA: class folder .*val/other holds no image"):
        check(data)
    with pytest.raises(UserError, match="DATA: no folder .*nowhere/val"):
        check(tmp_path / "nowhere")


def test_an_image_of_both_splits_is_a_fault(data: Path) -> None:
    shutil.copy(data / "val" / "class1" / "001.png", data / "train" / "class0" / "again.png")
    assert check(data) == [
        ("train/class0/again.png", "in train and val", "the same bytes as val/class1/001.png", "mend")
    ]


def test_workers_change_nothing_and_progress_counts_images(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(data / "train" / "class0", {name: content for name, (content, _, _) in BAD.items()})
    found: list[list[Found]] = []
    for cores in ({0}, {0, 1, 2}):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: cores)
        done: list[int] = []
        found.append(verify(data, done.append)[1])
        assert done == list(range(1, 36 + len(BAD) + 1))
    assert found[0] == found[1]


def test_where_all_is_good_there_is_no_list(data: Path, tmp_path: Path) -> None:
    bad = data / "val" / "class0" / "bad.jpg"
    bad.write_bytes(b"")
    assert run(data).exit_code
    assert (data / "skips.txt").exists()
    bad.unlink()
    done = run(data, "--json", tmp_path / "out.json")
    assert (done.exit_code, done.output.splitlines()[-1]) == (0, f"{data}: 36 images, nothing wrong")
    assert not (data / "skips.txt").exists()
    assert json.loads((tmp_path / "out.json").read_text()) == {
        "data": str(data), "images": 36, "found": [],
    }  # fmt: skip


def test_the_last_line_says_what_to_do(data: Path, tmp_path: Path) -> None:
    (data / "train" / "class0" / "bad.jpg").write_bytes(b"")
    write(data / "train" / "class3", {"good.jpg": JPEG})
    (data / "train" / "class3" / "notes.txt").touch()
    numbers = tmp_path / "out.json"
    done = run(data, "--skips", tmp_path / "list.txt", "--json", numbers)
    assert isinstance(done.exception, UserError)
    assert str(done.exception) == (
        f"{data}: bad images: 1; {tmp_path}/list.txt lists them, and training leaves them out if told "
        f"data.skips={tmp_path}/list.txt. {data}: faults to mend by hand: 2; the table names them"
    )
    assert not (data / "skips.txt").exists()
    assert "val/class3: train has it" in done.output
    kinds = [each["kind"] for each in json.loads(numbers.read_text())["found"]]
    assert sorted(kinds) == ["empty", "missing class", "not read"]


def test_a_list_with_any_names_can_be_read_again(data: Path) -> None:
    names = ["a\u2028b.png", "a\x0cb.png", "a\rb.png", "a\nb.png", "a\tb.png"]
    for name in names:
        (data / "train" / "class0" / name).touch()
    assert isinstance(run(data).exception, UserError)
    assert rows(check(data), "mend") == {(f"train/class0/{name}", "empty") for name in names[3:]}
    train, _ = read_splits(data)
    assert {Path(train.files[i]).name for i in train.skips} == {*names[:3]}
    split = replace(train, skips={0: "not\nread", **dict.fromkeys(range(len(train)), "bad")})
    (data / "skips.txt").write_text(skips.text(split))
    left = {Path(read_splits(data)[0].files[i]).name for i in read_splits(data)[0].good}
    assert left == {*names[3:]}


def test_a_list_of_somebody_else_is_kept(data: Path) -> None:
    (data / "train" / "class0" / "bad.jpg").write_bytes(b"")
    (data / "skips.txt").write_text("train/class0/001.png\tugly\n")
    done = run(data)
    assert isinstance(done.exception, UserError)
    assert "is not of 'hpcfast data verify' and is kept; give another place with --skips FILE" in str(done.exception)
    assert (data / "skips.txt").read_text() == "train/class0/001.png\tugly\n"


def test_places_that_are_not_there_are_named(data: Path, tmp_path: Path) -> None:
    done = run(data, "--skips", tmp_path / "nowhere" / "list.txt")
    assert "list.txt cannot be written; give a place with --skips FILE" in str(done.exception)


def test_a_pack_is_checked_too(images: Path, tmp_path: Path) -> None:
    pack(images, tmp_path / "pack", Recipe(shard_mb=1, short_side=None, seed=0), lambda done, total: None)
    assert verify(tmp_path / "pack", lambda done: None) == (36, [])
    shard = tmp_path / "pack" / "train" / "shard-000000.tar"
    shard.write_bytes(shard.read_bytes()[:-1])
    done = run(tmp_path / "pack")
    assert "train/shard-000000.tar: truncated" in done.output
    assert "faults to mend by hand: 1" in str(done.exception)
    (tmp_path / "pack" / "manifest.json").write_text('{"format": "hpcfast-pack", "version": 9}')
    assert rows(check(tmp_path / "pack"), "mend") == {("manifest.json", "damaged pack")}
