"""What a data set is, by content: so that a checkpoint, a result and a pack know the images that they rest on.

Two splits are the same if the names, classes and sizes of their images are, and the content of 1,000 of them, drawn by
seed. Where ``hpcfast data verify`` or ``pack`` has hashed every byte of both, these hashes must agree too.
Every rank reads its own copy of the data; one rank for each distinct copy works out what it is.
"""

import hashlib
import socket
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

import numpy as np

from hpcfast.data.images import ready
from hpcfast.data.readahead import READERS, attempt
from hpcfast.data.split import Split, digest
from hpcfast.distributed import comm
from hpcfast.distributed.comm import World
from hpcfast.errors import UserError

SAMPLE = 1000
"""Images whose bytes are read."""
SHOWN = 5  # names that a message lists


@dataclass(frozen=True)
class Identity:
    """What the images of a split are."""

    classes: dict[str, tuple[int, str]]
    """Of each class, its images and a digest of their names and sizes; in the order of the labels."""
    sampled: int
    """Images whose content was read."""
    sample: str
    """Digest of that."""
    content: str | None
    """Digest of all content, where it is known."""

    @property
    def digest(self) -> str:
        """Of what is always known: two splits with the same digest are taken for the same."""
        return digest([self.sample, *(f"{name}\0{count}\0{files}" for name, (count, files) in self.classes.items())])

    @property
    def basis(self) -> str:
        """In words, what of the images' content was looked at."""
        return "every byte" if self.content else f"names, sizes and the content of {self.sampled:,} images"

    def differences(self, other: "Identity") -> list[str]:
        """What is otherwise in ``other``, in words; empty if they are the same."""
        gone, new = self.classes.keys() - other.classes.keys(), other.classes.keys() - self.classes.keys()
        found = [f"class {some(gone)} is missing"] * bool(gone) + [f"class {some(new)} is new"] * bool(new)
        for name, (before, files) in self.classes.items():
            now, others = other.classes.get(name, (before, files))
            if before != now:
                found.append(f"class {name} has {now:,} images instead of {before:,}")
            elif files != others:
                found.append(f"images of class {name} have other names or sizes")
        contents = {self.content, other.content} - {None}
        if not found and (self.sample != other.sample or len(contents) > 1):
            found.append("images of the same names and sizes have other content")
        return found[:SHOWN] + [f"and {len(found) - SHOWN} more differences"] * (len(found) > SHOWN)


def identify(split: Split) -> Identity:
    """Find out what ``split`` is: a call to the file system for each image, and the content of ``SAMPLE`` of them."""
    names, sizes = split.names(), split.stats[:, 0].tolist()
    order = np.argsort(split.labels, kind="stable")
    ends = np.searchsorted(split.labels[order], np.arange(len(split.classes) + 1)).tolist()
    classes = {}
    for label, name in enumerate(split.classes):
        ids = order[ends[label] : ends[label + 1]].tolist()
        classes[name] = (len(ids), digest(f"{names[i]}\0{sizes[i]}" for i in ids))
    ids = sampled(len(split)).tolist()
    with ThreadPoolExecutor(READERS) as pool:
        sample = digest(pool.map(lambda i: str(content_digest(split, i)), ids))
    return Identity(classes, len(ids), sample, split.content())


def sampled(n: int) -> np.ndarray:
    """Ids of the images, of ``n``, whose content is read: the same in every run."""
    return np.random.default_rng(0).choice(n, min(n, SAMPLE), replace=False)


def agreed(splits: tuple[Split, ...], world: World) -> tuple[Identity, ...]:
    """What ``splits`` are; a collective of all ranks. UserError, on all, if data are not the same on all hosts."""
    everyone = comm.gather((_copy(splits), socket.gethostname()))
    copies = [copy for copy, _ in everyone]
    first = copies.index(copies[world.rank]) == world.rank
    mine = [asdict(identify(split)) for split in splits] if first else None
    found = [None if each is None else tuple(Identity(**one) for one in each) for each in comm.gather(mine)]
    reference = found[0]
    assert reference is not None  # noqa: S101 - rank 0 is the first of its copy
    for rank, others in enumerate(found):
        for split, expected, other in zip(splits, reference, others or reference, strict=True):
            if differences := expected.differences(other):
                hosts = {host for copy, host in everyone if copy == copies[rank]}
                raise UserError(
                    f"{split.root} is not the same on all hosts: on {some(hosts)}, {'; '.join(differences)}, "
                    f"compared with {everyone[0][1]}. Copy it anew there, or stage it with 'hpcfast data stage'."
                )
    return reference


def _copy(splits: tuple[Split, ...]) -> str:
    """Which copy of the data this host sees: only its folders have the same inodes and times of change on all hosts."""
    stats = [folder.stat() for split in splits for folder in split.folders()]
    return digest([*(f"{s.st_ino}\0{s.st_ctime_ns}" for s in stats), *(str(len(split)) for split in splits)])


def content_digest(split: Split, image: int) -> str | None:
    """SHA-256 of an image's bytes; None where they cannot be read."""
    data = attempt(split, image, ready)
    return None if isinstance(data, str) else hashlib.sha256(data.tobytes()).hexdigest()


def some(names: Iterable[str]) -> str:
    """The first names, for a message."""
    listed = sorted(names)
    return ", ".join(listed[:SHOWN]) + (f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else "")
