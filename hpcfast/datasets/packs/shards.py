"""Writing one shard of a pack: the same images give the same bytes, on any machine and any number of ranks."""

import hashlib
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from hpcfast.data.manifest import INDEX, Blob, Shard
from hpcfast.runs.files import replacing


class HashedFile:
    """Counts and hashes what is written to a file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._hash, self.bytes = file, hashlib.sha256(), 0

    def write(self, data: bytes | memoryview) -> None:
        self._file.write(data)
        self._hash.update(data)
        self.bytes += len(data)

    def blob(self) -> Blob:
        """What the file is that was written."""
        return Blob(bytes=self.bytes, sha256=self._hash.hexdigest())


@contextmanager
def hashed(path: Path) -> Iterator[HashedFile]:
    """Write ``path``, whole or not at all, and hash it on the way."""
    with replacing(path) as part, part.open("wb") as file:
        yield HashedFile(file)


def write(root: Path, name: str, first: int, images: Iterable[tuple[str, bytes, int]]) -> Shard:
    """Write ``root/name.tar`` and then ``root/name.npy``; OSError where the disk is full, or the like.

    Args:
        first: id of the first image in the pack.
        images: suffix, bytes and label of each.
    """
    rows = []
    with hashed(root / f"{name}.tar") as tar:
        for key, (suffix, data, label) in enumerate(images, first):
            rows.append((tar.bytes + tarfile.BLOCKSIZE, len(data), label, suffix))
            _add(tar, f"{key:08d}.{suffix}", data)
            _add(tar, f"{key:08d}.cls", str(label).encode())
        tar.write(bytes(2 * tarfile.BLOCKSIZE))  # the end of a tar file
    with hashed(root / f"{name}.npy") as npy:
        np.save(npy, np.array(rows, INDEX), allow_pickle=False)
    return Shard(name=name, images=len(rows), tar=tar.blob(), npy=npy.blob())


def room(size: int) -> int:
    """Bytes that an image of ``size`` bytes takes in a shard, with its label."""
    block = tarfile.BLOCKSIZE
    return 3 * block + -(-size // block) * block


def _add(tar: HashedFile, name: str, data: bytes) -> None:
    """Append a file. The tarfile module would not say where its bytes will lie."""
    info = tarfile.TarInfo(name)  # of nobody, of 1970: nothing that differs from run to run
    info.size = len(data)
    tar.write(info.tobuf(tarfile.USTAR_FORMAT))
    tar.write(data)
    tar.write(bytes(-len(data) % tarfile.BLOCKSIZE))
