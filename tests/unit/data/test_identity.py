"""What a data set is: everything that changes what is measured changes its identity, and nothing else does."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hpcfast.data.identity import SAMPLE, Identity, agreed, identify, sampled
from hpcfast.data.reader import read_splits
from hpcfast.data.split import HASHES
from hpcfast.datasets.verify import verify
from hpcfast.distributed.comm import World
from tests.conftest import write_images


@pytest.fixture
def copy(tmp_path: Path, images: Path) -> Path:
    return shutil.copytree(images, tmp_path / "copy")


def of(root: Path) -> Identity:
    return identify(read_splits(root)[1])


def repaint(file: Path) -> None:
    """Other pixels in a file of the same name, size and time of change."""
    size, before = file.stat().st_size, file.stat()
    Image.fromarray(np.random.default_rng(1).integers(0, 2, (10, 10), np.uint8)).save(file)
    file.write_bytes(file.read_bytes().ljust(size, b"\0")[:size])
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "removed": (lambda val: (val / "class1" / "002.png").unlink(), "class class1 has 3 images instead of 4"),
    "added": (
        lambda val: shutil.copy(val / "class1" / "002.png", val / "class1" / "009.png"),
        "class class1 has 5 images instead of 4",
    ),
    "renamed": (
        lambda val: (val / "class1" / "002.png").rename(val / "class1" / "9.png"),
        "images of class class1 have other names or sizes",
    ),
    "longer": (
        lambda val: (val / "class1" / "002.png").open("ab").write(b"!"),
        "images of class class1 have other names or sizes",
    ),
    "repainted": (lambda val: repaint(val / "class1" / "002.png"), "images of the same names and sizes have other con"),
    "class renamed": (
        lambda val: [(val.parent / split / "class1").rename(val.parent / split / "z") for split in ("train", "val")],
        "class class1 is missing; class z is new",
    ),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_what_changes_the_data_changes_the_identity_and_is_said(copy: Path, kind: str) -> None:
    before = of(copy)
    change, said = CHANGES[kind]
    change(copy / "val")
    after = of(copy)
    assert after.digest != before.digest
    assert "; ".join(before.differences(after)).startswith(said)


def test_a_copy_elsewhere_with_other_times_is_the_same(copy: Path, images: Path) -> None:
    for file in copy.rglob("*.png"):
        os.utime(file, ns=(1, 1))
    assert of(copy) == of(images)
    assert of(copy).differences(of(images)) == []


def test_the_sample_is_a_thousand_images_that_every_run_draws_alike() -> None:
    assert len(sampled(1_300_000)) == len({*sampled(1_300_000)}) == SAMPLE
    assert (sampled(1_300_000) == sampled(1_300_000)).all()
    assert sorted(sampled(7)) == [*range(7)]


def test_bytes_that_verify_hashed_count_until_a_file_changes(tmp_path: Path) -> None:
    root = write_images(tmp_path / "data", {"train": 3, "val": 3}, classes=2)
    before = of(root)
    assert before.content is None
    assert before.basis == "names, sizes and the content of 6 images"
    verify(root, lambda done: None)
    known = of(root)
    assert known.basis == "every byte"
    assert known.digest == before.digest, "kept results are found again"
    assert known.differences(before) == before.differences(known) == []
    os.utime(root / "val" / "class0" / "001.png", ns=(1, 1))
    assert of(root).content is None
    assert (root / HASHES).is_file()


def test_a_file_that_changes_while_verify_reads_is_not_known(tmp_path: Path) -> None:
    root = write_images(tmp_path / "data", {"train": 3, "val": 3}, classes=2)
    first = root / "val" / "class0" / "000.png"
    verify(root, lambda done: os.utime(first, ns=(1, 1)) if done == 12 else None)
    assert of(root).content is None


def test_hashes_tell_apart_what_a_sample_does_not() -> None:
    one, other = (Identity({"a": (1, "x")}, 1, "same", content) for content in ("this", "that"))
    assert one.differences(other) == ["images of the same names and sizes have other content"]


def test_one_rank_agrees_with_itself(images: Path, world: World) -> None:
    splits = read_splits(images)
    assert agreed(splits, world) == tuple(identify(split) for split in splits)
    synthetic = read_splits(Path("synthetic:20x2"))
    assert [sum(count for count, _ in each.classes.values()) for each in agreed(synthetic, world)] == [20, 2]
