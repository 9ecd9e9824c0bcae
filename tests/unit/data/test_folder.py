"""Image folders: what is in them, and the order in which it is read."""

import itertools
import os
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import assume, given

from hpcfast.data.order import train_order
from hpcfast.data.packed import is_pack
from hpcfast.data.reader import read_splits
from hpcfast.data.split import spread, stats
from hpcfast.errors import UserError

sizes, seeds, epochs = st.integers(1, 400), st.integers(0, 2**31), st.integers(0, 500)
ranks, batches = st.integers(1, 9), st.integers(1, 20)


@pytest.fixture
def copy(images: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(images, tmp_path / "copy"))


def test_both_splits_are_listed_by_class_and_name(images: Path) -> None:
    train, val = read_splits(images)
    assert (len(train), len(val)) == (24, 12)
    assert train.classes == val.classes == ("class0", "class1", "class2")
    assert train.files == sorted(train.files)
    for file, label in zip(train.files, train.labels, strict=True):
        assert Path(file).parent == images / "train" / train.classes[label]


def test_only_images_are_listed_and_any_case_of_suffix(copy: Path) -> None:
    (copy / "train" / "class0" / "notes.txt").write_text("no image")
    (copy / "train" / "README").write_text("no class")
    (copy / "train" / "class0" / "z.JPEG").write_bytes(b"")
    train, _ = read_splits(copy)
    assert len(train) == 25
    assert Path(train.files[8]).name == "z.JPEG"


def test_a_missing_folder_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no folder .*/train\. .*hpcfast data prepare"):
        read_splits(tmp_path / "nowhere")


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_missing_split_is_named(copy: Path, split: str) -> None:
    shutil.rmtree(copy / split)
    with pytest.raises(UserError, match=rf"data\.path: no folder .*/{split}\."):
        read_splits(copy)


def test_a_folder_that_may_not_be_read_is_named(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = os.scandir

    def scan(folder: str) -> Any:
        if folder.endswith("train/class1"):
            raise PermissionError(13, "Permission denied", folder)
        return original(folder)

    monkeypatch.setattr(os, "scandir", scan)
    with pytest.raises(
        UserError, match=r"train cannot be read: .*Permission denied: '.*train/class1'\. Make it readable"
    ):
        read_splits(copy)


def test_one_class_is_too_few(copy: Path) -> None:
    for label in (1, 2):
        shutil.rmtree(copy / "train" / f"class{label}")
    with pytest.raises(UserError, match=r"train has 1 class folders \(class0\); at least 2"):
        read_splits(copy)


def test_an_empty_class_is_named(copy: Path) -> None:
    for file in (copy / "val" / "class1").iterdir():
        file.unlink()
    with pytest.raises(UserError, match=r"class folder .*val/class1 holds no image \(\.jpg"):
        read_splits(copy)


def test_a_class_in_one_split_only_is_named(copy: Path) -> None:
    shutil.rmtree(copy / "val" / "class2")
    with pytest.raises(UserError, match=r"only in one of them: class2\."):
        read_splits(copy)


@given(sizes, seeds, epochs, ranks, batches)
def test_an_epoch_reads_whole_global_batches_and_no_image_twice(
    n: int, seed: int, epoch: int, size: int, batch: int
) -> None:
    order = train_order(n, seed, epoch, size, batch)
    assert len(order) == n // (size * batch) * size * batch
    assert len(set(order.tolist())) == len(order)
    assert ((order >= 0) & (order < n)).all()


@given(sizes, seeds, epochs, ranks, batches)
def test_a_global_step_has_the_same_images_whatever_the_number_of_ranks(
    n: int, seed: int, epoch: int, size: int, batch: int
) -> None:
    assume(n >= size * batch)
    alone = train_order(n, seed, epoch, 1, size * batch).reshape(-1, size * batch)
    # DALI gives each rank a contiguous block of the list.
    shared = train_order(n, seed, epoch, size, batch).reshape(size, -1, batch)
    for step, images in enumerate(alone):
        assert np.array_equal(shared[:, step].reshape(-1), images), f"step {step} on {size} ranks"


@given(sizes, seeds, epochs, st.lists(st.tuples(ranks, batches, st.integers(0, 5)), min_size=1, max_size=5))
def test_an_epoch_stopped_and_resumed_at_any_sizes_goes_through_one_permutation(
    n: int, seed: int, epoch: int, parts: list[tuple[int, int, int]]
) -> None:
    permutation = train_order(n, seed, epoch, 1, 1)
    done = 0
    for size, batch, steps in parts:
        rest = (n - done) // (size * batch)
        order = train_order(n, seed, epoch, size, batch, done, steps)
        assert len(order) == min(steps, rest) * size * batch
        images = order.reshape(size, -1, batch).swapaxes(0, 1).reshape(-1) if len(order) else order
        assert np.array_equal(images, permutation[done : done + len(order)])
        done += len(order)


@given(sizes, seeds, epochs, ranks, batches, st.integers(0, 20))
def test_an_order_resumed_at_a_step_is_the_rest_of_the_order(
    n: int, seed: int, epoch: int, size: int, batch: int, step: int
) -> None:
    assume(n >= (step + 1) * size * batch)
    whole = train_order(n, seed, epoch, size, batch).reshape(size, -1, batch)
    rest = train_order(n, seed, epoch, size, batch, done=step * size * batch).reshape(size, -1, batch)
    assert np.array_equal(rest, whole[:, step:])


def test_epochs_and_seeds_have_different_orders() -> None:
    orders = {tuple(train_order(50, *at, 1, 5)) for at in itertools.product(range(4), range(10))}
    assert len(orders) == 40


@given(seeds, epochs)
def test_an_order_is_a_function_of_seed_and_epoch(seed: int, epoch: int) -> None:
    first, second = (train_order(60, seed, epoch, 2, 5) for _ in range(2))
    assert np.array_equal(first, second)


@given(sizes, st.one_of(st.none(), st.integers(1, 500)))
def test_spread_ids_are_sorted_and_distinct(n: int, images: int | None) -> None:
    ids = spread(n, images)
    assert len(ids) == min(n, images or n)
    assert (np.diff(ids) > 0).all()
    assert ids[0] == 0
    assert ids[-1] < n


@given(st.lists(st.integers(1, 40), min_size=2, max_size=12), st.integers(1, 200))
def test_spread_ids_give_each_class_its_share(counts: list[int], images: int) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    ids = spread(len(labels), images)
    got = Counter(labels[ids].tolist())
    for label, count in enumerate(counts):
        assert abs(got[label] - count * len(ids) / len(labels)) < 1, f"class {label} of {counts}: {got}"


def test_what_is_no_pack_is_none(tmp_path: Path) -> None:
    assert is_pack(tmp_path) is False
    for text in ("", "[]", "{}", "7", '{"format": "other"}'):
        (tmp_path / "manifest.json").write_text(text)
        assert is_pack(tmp_path) is False
    (tmp_path / "manifest.json").write_text('{"format": "hpcfast-pack"}')
    assert is_pack(tmp_path) is True


@pytest.mark.parametrize("left", ["", '{"format": "hpcfa', "{}"])
def test_a_pack_whose_manifest_is_damaged_is_no_folder_of_images(tmp_path: Path, left: str) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "shard-000000.tar").touch()
    assert is_pack(tmp_path) is False, "somebody else's shards"
    (tmp_path / "manifest.json").write_text(left)
    with pytest.raises(UserError, match=r"manifest\.json"):
        read_splits(tmp_path)


def test_reading_an_image_leaves_no_file_open(images: Path) -> None:
    split = read_splits(images)[0]
    split.encoded(0)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names are enough
    for i in range(len(split)):
        assert split.encoded(i).tobytes() == Path(split.files[i]).read_bytes()
    with pytest.raises(OSError, match="no such"):
        replace(split, files=["no such"]).encoded(0)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_what_is_not_there_has_no_size(images: Path) -> None:
    file = next(images.rglob("*.png"))
    assert stats([str(file), str(file) + "x"]).tolist() == [[file.stat().st_size, file.stat().st_mtime_ns], [-1, 0]]
