"""``hpcfast data stage`` and ``data.stage``: copy a pack to a disk of every node; one rank of each copies.

A file gets its name when its hash has been compared, and a copy its own when it has all files; a killed command, given
again, only copies what a node lacks.
"""

import fcntl
import os
import shutil
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from hpcfast.data import manifest, packed
from hpcfast.data.manifest import MANIFEST, Blob, Manifest
from hpcfast.datasets.packs.write import hashed
from hpcfast.datasets.unfinished import fill, writable
from hpcfast.distributed import comm
from hpcfast.distributed.comm import World
from hpcfast.errors import UserError
from hpcfast.runs.files import PART

CHUNK = 1 << 24  # bytes that are read at a time
VARIABLE = "HPCFAST_NODE"
"""For tests only: what the node is called, so that one machine can be several."""


def this_node() -> str:
    """Its name."""
    return os.environ.get(VARIABLE) or socket.gethostname()


def here(to: Path) -> Path:
    """``to`` on this node: absolute, with the node's name for ``{node}``."""
    return Path(str(to).replace("{node}", this_node())).absolute()


def stage(pack: Path, to: Path, world: World, progress: Callable[[int], None], setting: str = "TO") -> dict[str, Any]:
    """Copy ``pack`` to :func:`here` of ``to`` on every node; return what was done, in numbers.

    Args:
        to: on a disk of the node's own; ranks may name different folders. ``setting`` is what a user calls it.
        progress: called with the number of bytes that this rank has copied so far.

    Raises:
        UserError: ``pack`` is none or damaged, ``to`` holds something else, is too small or on a disk that nodes
            share; on every rank.
    """
    described = Manifest.model_validate(comm.on_root(lambda: _described(pack).model_dump()))
    node, target = this_node(), here(to)
    everyone = comm.gather((node, target))
    leads = everyone.index((node, target)) == world.rank
    marks = {name: target.with_name(f".{target.name}.staged-by-{name}") for name, _ in everyone}
    files = described.files()
    copied: list[int] = []

    def count(size: int) -> None:
        copied.append(size)
        progress(sum(copied))

    def copy() -> None:
        if len(there := [name for name, mark in marks.items() if mark.exists()]) > 1:
            raise UserError(
                f"{setting} {target}: nodes {', '.join(there[:5])} share this folder, and one copy is enough for it. "
                f"Give a disk of the node's own, or put {{node}} into {setting}"
            )
        write = partial(_write, pack, files, setting, count)
        with _alone(target):
            if not target.exists():  # made here and then looked at: what is ours nobody else can replace
                with writable(target):
                    target.with_name(target.name + PART).mkdir(0o755, parents=True, exist_ok=True)
            for place in (target, target.with_name(target.name + PART)):
                refuse_others(place, setting)
            fill(target, MANIFEST, described.model_dump(mode="json"), "a copy of this pack", write)

    try:
        comm.raise_on_all_ranks(partial(_mark, marks[node]) if leads else lambda: None)
        comm.raise_on_all_ranks(copy if leads else lambda: None)
    finally:
        with suppress(OSError):  # there may be no such folder
            marks[node].unlink()
    return {
        "nodes": list(marks),
        "shards": len(described.shards),
        "bytes": sum(blob.bytes for blob in files.values()),
        "bytes_read": sum(comm.gather(sum(copied))),
    }


def own_folder(parent: Path, setting: str) -> Path:
    """A folder in ``parent``, which all users of the node may share, that is this user's alone; made if need be.

    Raises:
        UserError: it cannot be made, or somebody else was there first.
    """
    folder = parent / f"hpcfast-{os.geteuid()}"
    with writable(folder):
        parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
    refuse_others(folder, setting)
    folder.chmod(0o700)
    return folder


def refuse_others(place: Path, setting: str) -> None:
    """Refuse a folder, if there is one, that another user has made or can write to: it may hold any images.

    Raises:
        UserError: it is such a folder, or a link, which leads anywhere.
    """
    with suppress(FileNotFoundError):
        about = place.lstat()
        if about.st_uid != os.geteuid() or stat.S_ISLNK(about.st_mode) or about.st_mode & stat.S_IWOTH:
            raise UserError(
                f"{setting} {place}: on node {this_node()} this is another user's, a link, or writable by all; remove "
                f"it, or give another {setting}"
            )


def sentence(pack: Path, to: Path, done: dict[str, Any]) -> str:
    """What :func:`stage` has ``done``, in words."""
    size, read = done["bytes"] / 1e6, done["bytes_read"] / 1e6
    nodes = "1 node" if len(done["nodes"]) == 1 else f"{len(done['nodes'])} nodes"
    return f"{to}: {size:,.1f} MB on {nodes}, {read:,.1f} MB read from {pack}"


def _described(pack: Path) -> Manifest:
    described = manifest.read(pack)
    for name, fault in packed.faults(pack, quick=True):
        raise UserError(f"{pack}: {name}: {fault}; 'hpcfast data verify {pack}' lists all faults")
    return described


def _mark(mark: Path) -> None:
    """Show nodes that share the folder that this one is about to write to it."""
    with writable(mark.parent):
        mark.parent.mkdir(parents=True, exist_ok=True)
        os.close(_opened(mark))


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Let another job on this node finish the same copy first."""
    with ExitStack() as held:
        with suppress(OSError):  # a disk without locks, or another user's file
            file = _opened(target.with_name(f".{target.name}.lock"))
            held.callback(os.close, file)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _opened(path: Path) -> int:
    """Open a file, made if it is not there; of a link, which anybody may have left, raise OSError."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)


def _write(pack: Path, files: dict[str, Blob], setting: str, count: Callable[[int], None], part: Path) -> None:
    """Copy to ``part`` what it lacks of ``files``, and ``count`` the bytes of each."""
    for name in ("train", "val"):
        (part / name).mkdir(exist_ok=True)
    # What has its name is whole: it got that when its hash was right.
    missing = {name: blob for name, blob in files.items() if not (part / name).exists()}
    needed, free = sum(blob.bytes for blob in missing.values()), shutil.disk_usage(part).free
    if needed > free:
        raise UserError(
            f"node {this_node()}: {needed / 1e6:,.1f} MB are needed in {part}, {free / 1e6:,.1f} MB are free; make "
            f"room or give another {setting}"
        )
    for name, blob in missing.items():
        with hashed(part / name) as copy, (pack / name).open("rb") as file:
            while chunk := file.read(CHUNK):
                copy.write(chunk)
            if copy.blob() != blob:
                raise UserError(
                    f"{pack / name}: other bytes arrived on node {this_node()} than the manifest says; "
                    f"'hpcfast data verify {pack}' says whether the pack is whole"
                )
        count(blob.bytes)
