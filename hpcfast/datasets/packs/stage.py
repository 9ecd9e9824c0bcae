"""``hpcfast data stage``: copy a pack to a disk of every node; one rank of each copies.

A file gets its name when its hash has been compared, and a copy its own when it has all files; a killed command, given
again, only copies what a node lacks.
"""

import os
import shutil
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from hpcfast.data import manifest, packed
from hpcfast.data.manifest import MANIFEST, Manifest
from hpcfast.datasets.packs.shards import hashed
from hpcfast.datasets.unfinished import fill, writable
from hpcfast.distributed import comm
from hpcfast.distributed.comm import World
from hpcfast.errors import UserError

CHUNK = 1 << 24
"""Bytes that are read at a time."""
VARIABLE = "HPCFAST_NODE"
"""For tests only: what the node is called, so that one machine can be several."""


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
    leads = everyone.index(node) == world.rank
    target = Path(str(to).replace("{node}", node)).absolute()
    marks = {name: target.with_name(f".{target.name}.staged-by-{name}") for name in everyone}
    copied: list[int] = []

    def copy() -> None:
        if len(there := [name for name, mark in marks.items() if mark.exists()]) > 1:
            raise UserError(
                f"TO {target}: nodes {', '.join(there[:5])} share this folder, and one copy is enough for it. Give a "
                f"disk of the node's own, or put {{node}} into TO"
            )
        write = partial(_write, pack, described, node, copied, progress)
        fill(target, MANIFEST, described.model_dump(mode="json"), "a copy of this pack", write)

    try:
        comm.raise_on_all_ranks(partial(_mark, marks[node]) if leads else lambda: None)
        comm.raise_on_all_ranks(copy if leads else lambda: None)
    finally:
        marks[node].unlink(missing_ok=True)
    size = sum(blob.bytes for shard in described.shards for blob in shard.files().values())
    return {
        "nodes": list(marks),
        "shards": len(described.shards),
        "bytes": size,
        "bytes_read": sum(comm.gather(sum(copied))),
    }


def _described(pack: Path) -> Manifest:
    described = manifest.read(pack)
    for name, fault in packed.faults(pack, quick=True):
        raise UserError(f"{pack}: {name}: {fault}; 'hpcfast data verify {pack}' lists all faults")
    return described


def _mark(mark: Path) -> None:
    """Show nodes that share the folder that this one is about to write to it."""
    with writable(mark.parent):
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()


def _write(
    pack: Path, described: Manifest, node: str, copied: list[int], progress: Callable[[int], None], part: Path
) -> None:
    """Copy to ``part`` what it lacks; list in ``copied`` how many bytes each file had.

    Raises:
        UserError: there is no room, or other bytes arrived.
    """
    for name in ("train", "val"):
        (part / name).mkdir(exist_ok=True)
    files = {name: blob for shard in described.shards for name, blob in shard.files().items()}
    # What has its name is whole: it got that when its hash was right.
    missing = {name: blob for name, blob in files.items() if not (part / name).exists()}
    needed, free = sum(blob.bytes for blob in missing.values()), shutil.disk_usage(part).free
    if needed > free:
        raise UserError(
            f"node {node}: {needed / 1e6:,.1f} MB are needed in {part}, {free / 1e6:,.1f} MB are free; make room or "
            f"give another TO"
        )
    for name, blob in missing.items():
        with hashed(part / name) as copy, (pack / name).open("rb") as file:
            while chunk := file.read(CHUNK):
                copy.write(chunk)
            if copy.blob() != blob:
                raise UserError(
                    f"{pack / name}: other bytes arrived on node {node} than the manifest says; "
                    f"'hpcfast data verify {pack}' says whether the pack is whole"
                )
        copied.append(blob.bytes)
        progress(sum(copied))
