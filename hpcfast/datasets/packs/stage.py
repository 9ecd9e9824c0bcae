"""``hpcfast data stage``: copy a pack to a disk of every node.

One rank of each node copies. A file gets its name when its hash has been compared, and the copy its own when all nodes
have all files; a killed command, given again, only copies what a node lacks.
"""

import os
import shutil
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

from hpcfast.data import manifest, packed
from hpcfast.data.manifest import MANIFEST, Manifest
from hpcfast.datasets.packs.shards import hashed
from hpcfast.datasets.unfinished import begin, find, finish, writable
from hpcfast.distributed import comm
from hpcfast.distributed.comm import World
from hpcfast.errors import UserError
from hpcfast.runs.files import PART, clean

CHUNK = 1 << 24
"""Bytes that are read at a time."""
MARK = ".staged-by-"
VARIABLE = "HPCFAST_NODE"
"""For tests only: what the node is called, so that one machine can be several."""
WHAT = "a copy of this pack"


def stage(pack: Path, to: Path, world: World, progress: Callable[[int], None]) -> dict[str, Any]:
    """Copy ``pack`` to ``to`` on every node; return what was done, in numbers.

    Args:
        to: on a disk of the node's own; ``{node}`` in it becomes the node's name.
        progress: called with the number of bytes that this node has copied so far.

    Raises:
        UserError: ``pack`` is none or damaged, ``to`` holds something else, is too small or on a disk that nodes
            share; on every rank.
    """
    described = comm.on_root(lambda: _described(pack))
    node = os.environ.get(VARIABLE) or socket.gethostname()
    everyone = comm.gather(node)
    names = list(dict.fromkeys(everyone))
    copy = Copy(pack, described, Path(str(to).replace("{node}", node)).absolute(), node)

    def on_leaders(work: Callable[[], None]) -> None:
        comm.raise_on_all_ranks(work if everyone.index(node) == world.rank else lambda: None)

    on_leaders(copy.claim)
    on_leaders(lambda: copy.prepare(names))
    files = list(copy.files)
    first = len(files) * names.index(node) // len(names)  # not all nodes read the same file at a time
    for name in files[first:] + files[:first]:
        on_leaders(partial(copy.fetch, name))
        progress(copy.bytes_read)
    on_leaders(copy.finish)
    return {
        "nodes": names,
        "shards": len(described.shards),
        "bytes": sum(blob.bytes for blob in copy.files.values()),
        "bytes_read": sum(comm.gather(copy.bytes_read)),
    }


def _described(pack: Path) -> Manifest:
    described = manifest.read(pack)
    for name, fault in packed.faults(pack, quick=True):
        raise UserError(f"{pack}: {name}: {fault}; 'hpcfast data verify {pack}' lists all faults")
    return described


class Copy:
    """One node's copy of a pack; counts what it reads of the pack."""

    def __init__(self, pack: Path, described: Manifest, target: Path, node: str) -> None:
        self._pack, self._target, self._node = pack, target, node
        self._place = target.with_name(target.name + PART)
        self._about = described.model_dump(mode="json")
        self._missing: set[str] = set()
        self.files = {name: blob for shard in described.shards for name, blob in shard.files().items()}
        self.bytes_read = 0

    def claim(self) -> None:
        """Begin, or find what was begun or finished; an unfinished copy says which node's it is."""
        if find(self._target, MANIFEST, self._about, WHAT):
            self._place = self._target
            return
        with self._writable():
            begin(self._target, MANIFEST, self._about, WHAT)
            (self._place / f"{MARK}{self._node}").touch()

    def prepare(self, nodes: list[str]) -> None:
        """Find what is missing, and make sure of room for it, and that no other node writes to this folder."""
        there = [name for name in nodes if (self._place / f"{MARK}{name}").exists()]
        if len(there) > 1:
            raise UserError(
                f"TO {self._place}: nodes {', '.join(there[:5])} share this folder, and one copy is enough for it. "
                f"Give a disk of the node's own, or put {{node}} into TO"
            )
        with self._writable():
            for name in ("train", "val"):
                (self._place / name).mkdir(exist_ok=True)
            clean(self._place)  # of a command that was killed
            self._missing = {name for name in self.files if not self._has(name)}
            needed, free = sum(self.files[name].bytes for name in self._missing), shutil.disk_usage(self._place).free
        if needed > free:
            raise UserError(
                f"node {self._node}: {needed / 1e6:,.1f} MB are needed in {self._place}, {free / 1e6:,.1f} MB are "
                f"free; make room or give another TO"
            )

    def fetch(self, name: str) -> None:
        """Copy a file, if it is missing.

        Raises:
            UserError: it cannot be read or written, or other bytes arrived.
        """
        if name not in self._missing:
            return
        with self._writable(), hashed(self._place / name) as copy, (self._pack / name).open("rb") as file:
            while chunk := file.read(CHUNK):
                copy.write(chunk)
                self.bytes_read += len(chunk)
            if copy.blob() != self.files[name]:
                raise UserError(
                    f"{self._pack / name}: other bytes arrived on node {self._node} than the manifest says; "
                    f"'hpcfast data verify {self._pack}' says whether the pack is whole"
                )

    def finish(self) -> None:
        """Give the copy its name, now that all nodes have all files."""
        if self._place != self._target:
            with self._writable():
                (self._place / f"{MARK}{self._node}").unlink(missing_ok=True)
                finish(self._place, self._target, MANIFEST, self._about)

    def _has(self, name: str) -> bool:
        """Whether a file is there; it has its name only since its hash was right."""
        file = self._place / name
        return file.exists() and file.stat().st_size == self.files[name].bytes

    def _writable(self) -> AbstractContextManager[None]:
        return writable(
            f"TO {self._place} on node {self._node}", "Make room or give another TO, or see whether the pack is there."
        )
