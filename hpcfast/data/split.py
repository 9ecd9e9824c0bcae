"""The images of one split: their files, labels and ids, wherever their bytes are."""

import hashlib
import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from hpcfast.errors import UserError
from hpcfast.runs.reading import read_json

HASHES = "hashes.json"
"""In a data set's folder: what ``hpcfast data verify`` found every byte of it to be, see :meth:`Split.content`."""
STAT_THREADS, STAT_CHUNK = 8, 2000
"""Threads that ask a slow file system for the sizes of files, and for how many in one go."""
FAST_STAT = 50e-6
"""Seconds a file: one that answers sooner has it in its cache, and threads would only wait for Python's lock."""


@dataclass(frozen=True)
class Split:
    """The images of one split, sorted by class and name; an image's id is its place in this list."""

    root: Path
    files: list[str]
    labels: np.ndarray
    classes: tuple[str, ...]
    skips: Mapping[int, str] = field(default_factory=dict, kw_only=True)
    """Ids of bad images, which nobody is to read, and what is wrong with them. They keep their places in the list."""
    unread: Counter[str] = field(default_factory=Counter, kw_only=True)
    """How many files in ``root`` are not read, by suffix."""
    memory: dict[Any, Any] = field(default_factory=dict, kw_only=True, compare=False, repr=False)
    """What :mod:`hpcfast.data.resident` keeps of these very images."""

    def __len__(self) -> int:
        return len(self.files)

    @property
    def good(self) -> np.ndarray:
        """Ids of all images but the bad ones, in order; int64."""
        return np.delete(np.arange(len(self)), list(self.skips))

    def evenly(self, images: int | None) -> np.ndarray:
        """Ids of so many good images, evenly spread; of all for None."""
        good = self.good
        return good[spread(len(good), images)]

    def encoded(self, i: int) -> np.ndarray:
        """The bytes of an image's file, shape (bytes,), uint8, or an OSError; safe with threads."""
        file = os.open(self.files[i], os.O_RDONLY)  # of all ways to read a small file the cheapest by a third
        try:
            size = os.fstat(file).st_size
            data = os.read(file, size)
            while len(data) < size and (more := os.read(file, size - len(data))):  # a signal may cut a read short
                data += more
            return np.frombuffer(data, np.uint8)
        finally:
            os.close(file)

    def names(self) -> list[str]:
        """Each image's file, relative to ``root``."""
        start = len(str(self.root)) + 1
        return [file[start:] for file in self.files]

    @cached_property
    def stats(self) -> np.ndarray:
        """Each file's size (bytes; -1: there is none) and time of change (ns), shape (n, 2), int64."""
        return stats(self.files)

    def folders(self) -> list[Path]:
        """Places that change when images come or go: of another copy of the data they were made at another time."""
        return [self.root, *(self.root / self.classes[label] for label in np.unique(self.labels).tolist())]

    def stamp(self) -> str:
        """A digest of the names, sizes and times of change of all files: while it is the same, so are their bytes."""
        rows = zip(self.names(), self.stats.tolist(), strict=True)
        return digest(f"{name}\0{size}\0{time}" for name, (size, time) in rows)

    def content(self) -> str | None:
        """A digest of all bytes, where ``HASHES`` has it and no file has changed since."""
        try:
            known: Any = read_json(self.root.parent / HASHES)[self.root.name]
            return str(known["content"]) if known["files"] == self.stamp() else None
        except (OSError, ValueError, KeyError, TypeError):  # none, or none of ours
            return None

    def some(self, images: int | None) -> Self:
        """So many of the images, evenly spread; all for None."""
        return self.at(spread(len(self), images))

    def at(self, ids: np.ndarray) -> Self:
        """The images ``ids``, which get new ones."""
        skips = {new: self.skips[old] for new, old in enumerate(ids.tolist()) if old in self.skips}
        return replace(self, files=[self.files[i] for i in ids], labels=self.labels[ids], skips=skips, memory={})


def digest(parts: Iterable[str]) -> str:
    """128 bits of SHA-256 of lines, in hexadecimal."""
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:32]


def stats(files: list[str]) -> np.ndarray:
    """See :meth:`Split.stats`."""
    chunks = [files[start : start + STAT_CHUNK] for start in range(0, len(files), STAT_CHUNK)]

    def of_chunk(chunk: list[str]) -> np.ndarray:
        return np.array([_stat(file) for file in chunk], np.int64).reshape(-1, 2)

    began = time.perf_counter()
    found = [of_chunk(chunk) for chunk in chunks[:1]]
    if time.perf_counter() - began < STAT_CHUNK * FAST_STAT:
        found += map(of_chunk, chunks[1:])
    else:
        with ThreadPoolExecutor(STAT_THREADS) as pool:
            found += pool.map(of_chunk, chunks[1:])
    return np.concatenate([np.empty((0, 2), np.int64), *found])


def _stat(file: str) -> tuple[int, int]:
    try:
        found = os.stat(file)  # noqa: PTH116 - a million of them: Path would take twice the time
    except OSError:
        return -1, 0
    return found.st_size, found.st_mtime_ns


def spread(n: int, images: int | None) -> np.ndarray:
    """Ids of ``images`` of ``n`` sorted images, evenly spaced so that every class has its share; all for None."""
    count = n if images is None else min(images, n)
    return np.arange(count) * n // count


def match(split: Split, names: Sequence[str], origin: str) -> tuple[Split, list[str]]:
    """Number the classes of ``split`` as a network does, by name; the images and their ids stay as they are.

    Args:
        names: of all classes that the network tells apart, in the order of its logits.
        origin: where the names are from, for messages.

    Returns:
        The split with ``classes=names`` and int64 labels; and what a person should know, a sentence each.

    Raises:
        UserError: the network does not know a class of the images, or two of ``names`` are the same.
    """
    place = {name: number for number, name in enumerate(names)}
    if len(place) < len(names):
        twice = next(name for number, name in enumerate(names) if place[name] != number)
        raise UserError(f"{origin} names the class '{twice}' twice; every class needs a name of its own")
    if odd := [name for name in split.classes if name not in place]:
        raise UserError(
            f"{split.root}: {origin} does not know {len(odd)} of its {len(split.classes)} classes: {_some(odd)}; "
            f"it knows {len(names)}: {_some(names)}. "
            f"Give images of those classes, or rename the class folders as the network's classes are called"
        )
    numbers = np.array([place[name] for name in split.classes], np.int64)
    said = []
    if len(numbers) < len(names):
        said.append(f"the data have {len(numbers)} of the model's {len(names)} classes")
    if (np.diff(numbers) < 0).any():
        said.append("the model has the classes in another order than the data; they are matched by name")
    return replace(split, classes=tuple(names), labels=numbers[split.labels]), said


def _some(names: Sequence[str], shown: int = 5) -> str:
    return ", ".join(f"'{name}'" for name in names[:shown]) + (", …" if len(names) > shown else "")
