"""``hpcfast data stage``: copy a pack to a disk of every node, at the cost of reading it once.

Each file is read by one rank, which sends it, piece by piece, to one rank of every other node. A file gets its name
when its hash has been compared, and the copy its own when all nodes have all files; a killed command, given again,
only sends what a node lacks.
"""

import io
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from hpcfast.data import manifest, packed
from hpcfast.data.manifest import MANIFEST, Blob, Manifest
from hpcfast.datasets.packs.shards import hashed
from hpcfast.datasets.unfinished import begin, finish, holds, writable
from hpcfast.distributed import comm, nodes
from hpcfast.distributed.comm import World
from hpcfast.errors import UserError
from hpcfast.runs.files import PART, clean

CHUNK = 1 << 24
"""Bytes a message: long enough for any network, short enough for any memory."""
MARK = ".staged-by-"
WHAT = "a copy of this pack"


class Copy(NamedTuple):
    """One node's copy: where it grows, and the files it lacks."""

    place: Path
    missing: set[str]


def stage(pack: Path, to: Path, world: World, progress: Callable[[int], None]) -> dict[str, Any]:
    """Copy ``pack`` to ``to`` on every node; return what was done, in numbers.

    A finished copy is left as it is.

    Args:
        to: on a disk of the node's own; ``{node}`` in it becomes the node's name.
        progress: called with the number of bytes sent so far.

    Raises:
        UserError: ``pack`` is none or damaged, ``to`` holds something else, is too small or on a disk that nodes
            share, or there is no MPI between nodes; on every rank.
    """
    text, described = comm.on_root(lambda: _described(pack))
    where = nodes.find(world)
    target = Path(str(to).replace("{node}", where.name)).absolute()
    half = target.with_name(target.name + PART)
    files = {name: blob for shard in described.shards for name, blob in shard.files().items()}
    place = comm.raise_on_all_ranks(lambda: _claim(target, text, where) if where.leads else half)
    comm.raise_on_all_ranks(lambda: _refuse_shared(half, where))
    copy = comm.raise_on_all_ranks(lambda: _begin(place, files, where) if where.leads else Copy(half, set()))
    wanted = set().union(*comm.gather(copy.missing))
    sender = _Sender(pack, copy, where)
    sent = 0
    for number, shard in enumerate(described.shards):
        for name in sorted(wanted.intersection(shard.files())):
            comm.raise_on_all_ranks(partial(sender.pass_on, name, files[name], number % len(where.names)))
            sent += files[name].bytes
            progress(sent)
    comm.raise_on_all_ranks(lambda: _finish(copy.place, target, where))
    return {
        "nodes": where.names,
        "shards": len(described.shards),
        "bytes": sum(blob.bytes for blob in files.values()),
        "bytes_read": sum(comm.gather(sender.bytes_read)),
    }


def _described(pack: Path) -> tuple[str, Manifest]:
    """The manifest, as it stands and as it is understood."""
    described = manifest.read(pack)
    for name, fault in packed.faults(pack, quick=True):
        raise UserError(f"{pack}: {name}: {fault}; 'hpcfast data verify {pack}' lists all faults")
    return (pack / MANIFEST).read_text(), described


def _claim(target: Path, text: str, where: nodes.Nodes) -> Path:
    """Where this node's copy is or grows; there it says that it is this node's."""
    if holds(target, MANIFEST, text, WHAT):
        return target
    with _writable(target, where):
        half = begin(target, MANIFEST, text, WHAT)
        (half / f"{MARK}{where.name}").touch()
    return half


def _begin(place: Path, files: dict[str, Blob], where: nodes.Nodes) -> Copy:
    """Find what this node's copy lacks, and make sure of room for it."""
    with _writable(place, where):
        for name in ("train", "val"):
            (place / name).mkdir(exist_ok=True)
        missing = {name for name, blob in files.items() if not _has(place / name, blob)}
        clean(place)  # of a command that was killed
        needed, free = sum(files[name].bytes for name in missing), shutil.disk_usage(place).free
    if needed > free:
        raise UserError(
            f"node {where.name}: {needed / 1e6:,.1f} MB are needed in {place}, {free / 1e6:,.1f} MB are free; "
            f"make room or give another TO"
        )
    return Copy(place, missing)


def _has(file: Path, blob: Blob) -> bool:
    """Whether a file is there; it has its name only since its hash was right."""
    return file.exists() and file.stat().st_size == blob.bytes


def _refuse_shared(half: Path, where: nodes.Nodes) -> None:
    """Make sure that no two nodes write to one folder."""
    if where.leads:
        there = [name for name in where.names if (half / f"{MARK}{name}").exists()]
        if len(there) > 1:
            raise UserError(
                f"TO {half}: nodes {', '.join(there[:5])} share this folder, and one copy is enough for it. Give a "
                f"disk of the node's own, or put {{node}} into TO"
            )


class _Sender:
    """Sends files between nodes; counts what it reads of the pack."""

    def __init__(self, pack: Path, copy: Copy, where: nodes.Nodes) -> None:
        self._pack, self._copy, self._where = pack, copy, where
        self.bytes_read = 0

    def pass_on(self, name: str, blob: Blob, source: int) -> None:
        """Have node ``source`` read a file, and every node that lacks it write it.

        Raises:
            UserError: this rank could not read it, not write it, or got something else.
        """
        if not self._where.leads:
            return
        chunks = self._chunks(name, blob, source)
        try:
            if name in self._copy.missing:
                with _writable(self._copy.place, self._where), hashed(self._copy.place / name) as file:
                    for chunk in chunks:
                        file.write(chunk)
                    if file.blob() != blob:
                        raise UserError(
                            f"{self._pack / name}: other bytes arrived on node {self._where.name} than the manifest "
                            f"says; 'hpcfast data verify {self._pack}' says whether the pack is whole"
                        )
        finally:
            for _ in chunks:
                pass  # whatever went wrong here, the other nodes wait for their pieces

    def _chunks(self, name: str, blob: Blob, source: int) -> Iterator[memoryview]:
        """The bytes of a file, piece by piece, read here or on another node."""
        fault: OSError | None = None
        buffer = memoryview(bytearray(min(CHUNK, blob.bytes)))
        with ExitStack() as stack:
            for start in range(0, blob.bytes, CHUNK):
                chunk = buffer[: blob.bytes - start]
                if self._where.here == source and not fault:
                    try:
                        if not start:
                            file = stack.enter_context((self._pack / name).open("rb"))
                        self._fill(chunk, file)
                    except OSError as error:
                        fault = error
                self._where.broadcast(chunk, source)
                yield chunk
        if fault:
            raise UserError(f"{self._pack / name} cannot be read on node {self._where.name}: {fault}")

    def _fill(self, chunk: memoryview, file: io.BufferedReader) -> None:
        count = file.readinto(chunk)
        self.bytes_read += count
        if count < len(chunk):
            raise OSError("it is truncated")


def _finish(place: Path, target: Path, where: nodes.Nodes) -> None:
    if where.leads and place != target:
        with _writable(target, where):
            (place / f"{MARK}{where.name}").unlink(missing_ok=True)
            finish(place, target)


def _writable(target: Path, where: nodes.Nodes) -> AbstractContextManager[None]:
    return writable(f"TO {target} on node {where.name}", "Make room or give another TO.")
