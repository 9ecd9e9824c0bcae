"""Reading ahead: every byte in order, not without bounds, up to the first bad image, and no thread left behind."""

import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from hpcfast.data.dali import read_encoded
from hpcfast.data.readahead import AHEAD, BadImages, Prefetcher
from hpcfast.data.reader import read_splits
from hpcfast.data.split import Split


@dataclass(frozen=True)
class Counting(Split):
    """Images that need no disk; ``bad`` ones cannot be read."""

    bad: tuple[int, ...] = ()
    asked: list[int] = field(default_factory=list)

    def encoded(self, i: int) -> np.ndarray:
        self.asked.append(i)
        if i in self.bad:
            raise OSError(5, "Input/output error", self.files[i])
        return np.frombuffer(b"P5\n1 1\n255\n" + bytes([i]), np.uint8)


def counting(n: int = 100, *bad: int) -> Counting:
    return Counting(Path("root"), [f"root/{i}" for i in range(n)], np.zeros(n, int), ("a", "b"), bad)


def readers() -> int:
    return sum(thread.name.startswith("hpcfast-read") for thread in threading.enumerate())


@pytest.mark.parametrize("batch", [1, 7, 40, 100, 1000])
def test_images_come_in_the_order_asked_for(batch: int) -> None:
    ids = np.random.default_rng(0).permutation(100)
    batches = list(read_encoded(counting(), ids, batch, {}))
    assert [image[-1] for each in batches for image in each] == ids.tolist()
    assert {len(each) for each in batches[:-1]} <= {batch}


def test_the_bytes_are_the_files(images: Path) -> None:
    train, _ = read_splits(images)
    (batch,) = read_encoded(train, np.array([3, 20]), 2, {})
    assert [each.tobytes() for each in batch] == [Path(train.files[i]).read_bytes() for i in (3, 20)]


def test_no_more_is_read_than_is_held_ahead() -> None:
    split = counting()
    with closing(read_encoded(split, np.arange(100), 4, {})) as encoded:
        next(encoded)
        assert {*split.asked} <= {*range((AHEAD + 1) * 4)}


@pytest.mark.parametrize("bad", [0, 9, 11])
def test_it_ends_before_the_first_batch_with_a_bad_image(bad: int) -> None:
    faults: dict[int, str] = {}
    encoded = read_encoded(counting(12, bad), np.arange(12), 4, faults)
    assert len(list(encoded)) == bad // 4
    assert faults == {bad: "cannot be read: Input/output error"}
    assert list(encoded) == []


def test_no_thread_stays_behind() -> None:
    before = readers()
    with closing(read_encoded(counting(), np.arange(100), 4, {})) as encoded:
        next(encoded)
        assert readers() > before
    assert readers() == before


def test_two_batches_are_looked_at_before_they_are_needed() -> None:
    split = counting(9)

    def batches(bad: int) -> Prefetcher[int]:
        def upcoming() -> Iterator[int]:
            for i in range(5):
                if i == bad:
                    raise BadImages(split, {i: "is empty"})
                yield i

        return Prefetcher(upcoming())

    prefetcher, taken = batches(3), []
    while (batch := prefetcher.take()) is not None:
        assert bool(prefetcher.faults) == (batch >= 2)
        taken.append(batch)
        assert prefetcher.peek() == (batch >= 1)
    assert taken == [0, 1, 2]
    assert batches(1).faults == {1: "is empty"}
    assert batches(5).take() == 0
