"""Reading packs, which :mod:`hpcfast.data.manifest` describes, and finding what is wrong with one."""

import hashlib
import os
import resource
import threading
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np

from hpcfast.data import manifest
from hpcfast.data.manifest import INDEX, MANIFEST, Blob, Manifest, Shard
from hpcfast.data.split import Split, digest
from hpcfast.errors import UserError
from hpcfast.runs.reading import read_json


@dataclass(frozen=True)
class PackedSplit(Split):
    """The images of one split of a pack, in the order of its shards."""

    shards: "OpenShards"
    shard: np.ndarray
    """Each image's, shape (n,), int32."""
    index: np.ndarray
    """Shape (n,), of ``INDEX``."""
    place: Path
    """The pack that is read: the one that ``root`` is in, or a copy of it."""

    def at(self, ids: np.ndarray) -> Self:
        return replace(super().at(ids), shard=self.shard[ids], index=self.index[ids])

    def encoded(self, i: int) -> np.ndarray:
        row = self.index[i]
        data = self.shards.read(int(self.shard[i]), int(row["offset"]), int(row["size"]))
        if len(data) < row["size"]:
            raise OSError(f"{self.files[i]}: the shard ends in the middle of it")
        return np.frombuffer(data, np.uint8)

    @cached_property
    def stats(self) -> np.ndarray:
        return np.stack([self.index["size"].astype(np.int64), np.zeros(len(self), np.int64)], 1)

    def folders(self) -> list[Path]:
        return [self.place / MANIFEST]

    def content(self) -> str | None:
        """Of the hashes in the manifest, which is written last: None where a shard is newer."""
        described = manifest.read(self.place).of(self.root.name)
        newest = max(self.place.joinpath(f"{shard.name}.tar").stat().st_mtime_ns for shard in described)
        if newest > (self.place / MANIFEST).stat().st_mtime_ns:
            return None
        return digest(shard.tar.sha256 for shard in described)


class OpenShards:
    """Files that are opened when they are first read from, once each, and then stay open."""

    def __init__(self, paths: list[Path]) -> None:
        self._paths = paths
        self._open: dict[int, int] = {}
        self._lock = threading.Lock()
        weakref.finalize(self, _close, self._open)

    def __reduce__(self) -> tuple[type, tuple[list[Path]]]:
        return type(self), (self._paths,)  # another process opens its own

    def read(self, shard: int, offset: int, size: int) -> bytes:
        """At most ``size`` bytes from ``offset`` on."""
        with self._lock:
            if shard not in self._open:
                self._open[shard] = os.open(self._paths[shard], os.O_RDONLY)
        return os.pread(self._open[shard], size, offset)


def _close(files: dict[int, int]) -> None:
    for file in files.values():
        os.close(file)


def is_pack(root: Path) -> bool:
    """Whether ``root`` was made by ``hpcfast data pack``; its manifest may be damaged."""
    try:
        return bool(read_json(root / MANIFEST)["format"] == manifest.FORMAT)
    except OSError:
        return False
    except (ValueError, KeyError, TypeError):  # somebody else's manifest, or what is left of ours
        return any(root.glob("*/shard-*.tar"))


def read(root: Path, copy: Path | None = None) -> tuple[PackedSplit, PackedSplit]:
    """List the ``train`` and ``val`` splits of the pack ``root``; or of its ``copy``, with the names they have here.

    Raises:
        UserError: the pack is of another version or damaged, as far as its manifest, its indices and the sizes of its
            shards tell (``faults`` looks closer).
    """
    place = copy or root
    described = manifest.read(place)
    _allow_open_files(place, len(described.shards))
    for name, blob in described.files().items():
        if fault := fault_of(place / name, blob, quick=True):
            raise _mismatch(place, name, fault)
    return _split(root, place, described, "train"), _split(root, place, described, "val")


def _split(root: Path, place: Path, described: Manifest, name: str) -> PackedSplit:
    shards = described.of(name)
    index = np.concatenate([np.empty(0, INDEX), *(_index(place, shard) for shard in shards)])
    labels = index["label"].astype(np.int64)
    if labels.size and not 0 <= labels.min() <= labels.max() < len(described.classes):
        odd = int(labels.min() if labels.min() < 0 else labels.max())
        raise _mismatch(place, name, f"a label is {odd}, legal are 0 to {len(described.classes) - 1}")
    counts = np.bincount(labels, minlength=len(described.classes))
    if not counts.all():
        raise _mismatch(place, name, f"class {described.classes[int(counts.argmin())]} has no image")
    number = np.repeat(np.arange(len(shards), dtype=np.int32), [shard.images for shard in shards])
    files = [
        f"{root}/{shards[s].name}.tar/{key:08d}.{suffix.decode()}"
        for key, (s, suffix) in enumerate(zip(number.tolist(), index["suffix"].tolist(), strict=True))
    ]
    opened = OpenShards([place / f"{shard.name}.tar" for shard in shards])
    return PackedSplit(root / name, files, labels, described.classes, opened, number, index, place)


def _index(root: Path, shard: Shard) -> np.ndarray:
    name = f"{shard.name}.npy"
    try:
        with (root / name).open("rb") as file:
            np.lib.format.read_magic(file)
            shape, _, kind = np.lib.format.read_array_header_1_0(file)
            # Before memory is taken for them:
            if kind != INDEX or shape != (shard.images,) or shard.images * INDEX.itemsize > shard.npy.bytes:
                raise ValueError(f"{kind} of shape {shape} is no index of {shard.images} images")
            index = np.fromfile(file, INDEX, shard.images)
    except Exception as error:  # noqa: BLE001 - of an odd header numpy's tokenizer raises whatever it runs into
        raise _mismatch(root, name, str(error)) from None
    if len(index) < shard.images:
        raise _mismatch(root, name, f"it ends after {len(index)} of {shard.images} images")
    if not 0 <= index["offset"].min() <= (index["offset"] + index["size"]).max() <= shard.tar.bytes:
        raise _mismatch(root, name, f"an image would lie outside the shard's {shard.tar.bytes:,} bytes")
    if not (fine := np.char.isalnum(index["suffix"])).all():
        raise _mismatch(root, name, f"an image would be a file of the kind {index['suffix'][~fine][0]!r}")
    return index


def _mismatch(root: Path, name: str, fault: str) -> UserError:
    return UserError(
        f"{root} does not match its manifest: {name}: {fault}. 'hpcfast data verify {root}' lists all faults; "
        f"copy the files again, or remove the pack and give 'hpcfast data pack' again."
    )


def _allow_open_files(root: Path, shards: int) -> None:
    """Raise the limit of open files, often 1024, where one for each shard needs more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = shards + 512  # the rest is for Python, Horovod and DALI
    if hard != resource.RLIM_INFINITY and wanted > hard:
        raise UserError(
            f"{root}: {shards} shards, but {hard} open files at most; raise ulimit -n or pack larger shards"
        )
    if soft != resource.RLIM_INFINITY and wanted > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def faults(root: Path, quick: bool) -> Iterator[tuple[str, str]]:
    """Names of the bad files of the pack ``root``, and why; ``quick``: by sizes, otherwise by hashes of all bytes."""
    try:
        described = manifest.read(root)
    except UserError as error:
        yield MANIFEST, str(error)
        return
    for name, blob in described.files().items():
        if fault := fault_of(root / name, blob, quick):
            yield name, fault


def fault_of(file: Path, blob: Blob, quick: bool) -> str | None:
    """What is wrong with a file, see :func:`faults`."""
    try:
        size = file.stat().st_size
        if size != blob.bytes:
            return f"{'truncated' if size < blob.bytes else 'too long'}: {size:,} of {blob.bytes:,} bytes"
        if quick:
            return None
        with file.open("rb") as opened:
            found = hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        return error.strerror or str(error)
    return None if found == blob.sha256 else "its bytes have changed: SHA-256 is not the manifest's"
