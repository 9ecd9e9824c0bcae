"""Image folders: ``train/`` and ``val/``, in each one folder a class. What is in them, and in which order it is read.

A class's images may be in folders of any depth below its own (:mod:`hpcfast.data.listing`).

Orders are functions of (seed, epoch) alone, not of the number of ranks, and are worked out here, in numpy, so
that DALI only reads what it is told to.
"""

import json
import os
import time
from collections import Counter
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from hpcfast.data import hashes
from hpcfast.data.images import SUFFIXES
from hpcfast.data.listing import folders_in, images_below, kinds
from hpcfast.errors import UserError

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
        """The bytes of an image's file, shape (bytes,), uint8; safe with threads.

        Raises:
            OSError: they cannot be read.
        """
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

    def content(self, names: list[str], stats: np.ndarray) -> str | None:
        """A digest of all bytes, where someone has hashed them and no file has changed since."""
        return hashes.content(self.root, names, stats)

    def some(self, images: int | None) -> "Split":
        """So many of the images, evenly spread; all for None."""
        return self.at(spread(len(self), images))

    def at(self, ids: np.ndarray) -> "Split":
        """The images ``ids``, which get new ones."""
        skips = {new: self.skips[old] for new, old in enumerate(ids.tolist()) if old in self.skips}
        return replace(self, files=[self.files[i] for i in ids], labels=self.labels[ids], skips=skips)


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


def read(root: Path, listed: Path | None = None) -> tuple[Split, Split]:
    """List the ``train`` and ``val`` splits of ``root``: a folder, a pack, or ``synthetic:…``, which needs no disk.

    Args:
        listed: names images to leave out (see :mod:`hpcfast.data.skips`); by default ``root/skips.txt`` does, if it
            exists.

    Raises:
        UserError: a split is missing or has fewer than two classes, a class is empty, or the classes differ.
    """
    from hpcfast.data import packed, skips  # here, since they know from this file what a split is

    if str(root).startswith("synthetic:"):
        from hpcfast.data import synthetic

        return synthetic.read(str(root))
    train, val = packed.read(root) if is_pack(root) else _read_folders(root)
    own = root / skips.NAME
    names = skips.read(listed or own) if listed or own.exists() else {}
    return skips.without(train, names), skips.without(val, names)


def _read_folders(root: Path) -> tuple[Split, Split]:
    train, val = (read_split(root / name) for name in ("train", "val"))
    if train.classes != val.classes:
        odd = sorted(set(train.classes) ^ set(val.classes))
        raise UserError(
            f"{root}: train and val must have the same classes; only in one of them: {', '.join(odd[:5])}. "
            f"Add the missing class folders or remove the surplus ones."
        )
    return train, val


def is_pack(root: Path) -> bool:
    """Whether ``root`` was made by ``hpcfast data pack``."""
    try:
        return bool(json.loads((root / "manifest.json").read_text())["format"] == "hpcfast-pack")
    except (OSError, ValueError, KeyError, TypeError):
        return False


def read_split(root: Path, setting: str = "data.path") -> Split:
    """List the images in ``root``, which has one folder a class.

    Args:
        setting: what the user calls the place, for messages.

    Raises:
        UserError: ``root`` is missing or has fewer than two classes, or a class is empty.
    """
    if not root.is_dir():
        raise UserError(
            f"{setting}: no folder {root}. A data set is a folder with train/ and val/, in each one folder a "
            f"class; make one with 'hpcfast data prepare', or give another {setting}."
        )
    classes, loose = folders_in(str(root))
    if len(classes) < 2:
        raise UserError(
            f"{setting}: {root} has {len(classes)} class folders ({', '.join(classes) or 'none'}); "
            f"at least 2 are needed, one folder a class."
        )
    files: list[str] = []
    labels: list[int] = []
    unread = kinds(loose)
    for label, name in enumerate(classes):
        found = images_below(f"{root}/{name}")
        if not found.images:
            raise UserError(
                f"{setting}: class folder {root / name} holds no image ({', '.join(SUFFIXES)}). "
                f"Put images there or remove the class everywhere."
            )
        files += found.images
        labels += [label] * len(found.images)
        unread += kinds(found.others)
    return Split(root, files, np.array(labels), tuple(classes), unread=unread)


def train_order(
    n: int,
    seed: int,
    epoch: int,
    ranks: int,
    batch: int,
    done: int = 0,
    steps: int | None = None,
    skips: Collection[int] = (),
) -> np.ndarray:
    """Ids in the order in which they must be read so that each global step takes the next images of one permutation.

    Rank r reads the r-th contiguous block of it. What is left of the permutation of (seed, epoch) is cut to whole
    global batches and dealt out: in step s, rank r has its images ``s * ranks * batch + r * batch`` onwards.

    Args:
        n: images in the split, bad ones too.
        batch: images a rank and optimizer step; with accumulation, of all its micro batches.
        done: images of this epoch that were trained on already, by any number of ranks.
        steps: at most so many global batches; by default all that are left.
        skips: ids of bad images; the others keep their order.

    Returns:
        Shape (steps * ranks * batch,), int64, no id twice; empty if less than a global batch is left.
    """
    rest = _permutation(n, seed, epoch, skips)[done:]
    whole = len(rest) // (ranks * batch)
    steps = whole if steps is None else min(steps, whole)
    return rest[: steps * ranks * batch].reshape(steps, ranks, batch).swapaxes(0, 1).reshape(-1)


def still_done(n: int, seed: int, epoch: int, done: int, before: Collection[int], now: Collection[int]) -> int:
    """How many of an epoch's first ``done`` images, found without the skips ``before``, are not among ``now``."""
    return done - int(np.isin(_permutation(n, seed, epoch, before)[:done], [*now]).sum())


def _permutation(n: int, seed: int, epoch: int, skips: Collection[int]) -> np.ndarray:
    everything = np.random.default_rng([seed, epoch]).permutation(n)
    return everything[~np.isin(everything, [*skips])]


def spread(n: int, images: int | None) -> np.ndarray:
    """Ids of ``images`` of ``n`` sorted images, evenly spaced so that every class has its share; all for None."""
    count = n if images is None else min(images, n)
    return np.arange(count) * n // count
