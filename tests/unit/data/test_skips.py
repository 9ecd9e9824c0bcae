"""Lists of images that are left out: read as they are written, and ids stay what they were."""

from dataclasses import replace
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from hpcfast.data import skips
from hpcfast.data.order import resume_offset, train_order
from hpcfast.data.reader import read_splits
from hpcfast.errors import UserError

LIST = "# a comment\n\ntrain/class1/003.png\tis empty\nval/class0/000.png\tis a GIF\ntrain/gone/0.png\t\n"


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    (tmp_path / "list.txt").write_text(LIST)
    return tmp_path / "list.txt"


def test_listed_images_are_skipped_and_keep_their_ids(images: Path, listed: Path) -> None:
    (all_train, _), (train, val) = read_splits(images), read_splits(images, listed)
    assert train.files == all_train.files
    assert train.skips == {8 + 3: "is empty"}
    assert val.skips == {0: "is a GIF"}
    assert train.good.tolist() == [i for i in range(24) if i != 11]
    assert 11 not in train.evenly(None)
    assert len(train.evenly(5)) == 5


def test_the_list_in_the_data_set_is_found_by_itself(tmp_path: Path, images: Path, listed: Path) -> None:
    (tmp_path / "data").mkdir()
    for name in ("train", "val"):
        (tmp_path / "data" / name).symlink_to(images / name)
    listed.rename(tmp_path / "data" / "skips.txt")
    train, _ = read_splits(tmp_path / "data")
    assert train.skips == {11: "is empty"}


def test_what_is_written_is_read_again(images: Path, tmp_path: Path) -> None:
    split = replace(read_splits(images)[0], skips={11: "is empty", 2: "cannot be read: No such file"})
    (tmp_path / "list").write_text(skips.text(split))
    assert read_splits(images, tmp_path / "list")[0].skips == split.skips


def test_some_images_take_their_skips_along(images: Path, listed: Path) -> None:
    some = read_splits(images, listed)[0].some(8)  # every third: 0, 3, 6, 9, 12 …
    assert some.skips == {}
    some = read_splits(images, listed)[0].at(np.array([5, 11, 2]))
    assert some.skips == {1: "is empty"}


@pytest.mark.parametrize("line", ["class1/003.png\tempty", "/data/train/a/b.png", "test/a/b.png\t"])
def test_another_kind_of_list_is_refused(images: Path, tmp_path: Path, line: str) -> None:
    (tmp_path / "list").write_text(f"# comment\n{line}\n")
    with pytest.raises(UserError, match=r"data\.skips: .*list, line 2: .* should be train/CLASS/FILE"):
        read_splits(images, tmp_path / "list")


def test_a_missing_list_is_named(images: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.skips: .*nowhere cannot be read"):
        read_splits(images, tmp_path / "nowhere")


@pytest.mark.parametrize(("bad", "wanted", "refused"), [(10, 24, False), (11, 24, True), (3, 3, True), (2, 3, False)])
def test_many_bad_images_are_a_fault_of_the_disk(images: Path, bad: int, wanted: int, refused: bool) -> None:
    split, faults = read_splits(images)[0], dict.fromkeys(range(bad), "is empty")
    if refused:
        with pytest.raises(UserError, match=rf"{bad} of 24 images are bad.*000\.png is empty"):
            skips.refuse_many(split, faults, wanted)
    else:
        skips.refuse_many(split, faults, wanted)


@given(st.integers(1, 200), st.integers(0, 9), st.data())
def test_skips_change_neither_the_order_nor_what_was_done(n: int, epoch: int, data: st.DataObject) -> None:
    ids = st.sets(st.integers(0, n - 1))
    before, more = data.draw(ids), data.draw(ids)
    full, filtered = (train_order(n, 3, epoch, 1, 1, skips=each) for each in ((), before))
    assert filtered.tolist() == [i for i in full.tolist() if i not in before]
    done = data.draw(st.integers(0, len(filtered)))
    now = before | more
    still = resume_offset(n, 3, epoch, done, before, now)
    rest = train_order(n, 3, epoch, 1, 1, done=still, skips=now)
    assert sorted(rest.tolist()) == sorted({*range(n)} - now - {*filtered[:done].tolist()})


@pytest.mark.parametrize(("count", "expected"), [(1, "0 bad"), (5, "0 bad; 1 bad; 2 bad; 3 bad; 4 bad")])
def test_a_few_bad_images_are_all_named(count: int, expected: str) -> None:
    assert skips.first_of({str(i): "bad" for i in range(count)}) == expected


def test_of_many_bad_images_the_first_five_are_named_and_the_others_counted() -> None:
    found = skips.first_of({str(i): "bad" for i in range(8)})
    assert found == "0 bad; 1 bad; 2 bad; 3 bad; 4 bad; and 3 more"


def test_without_a_list_a_split_is_the_one_it_was(images: Path) -> None:
    train = read_splits(images)[0]
    assert skips.without(train, {}) is train
