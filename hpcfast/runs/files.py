"""Files that are there whole or not at all, whoever else writes them and whenever a kill comes.

Every writer has a temporary file of its own, so that two writers of one file never mix: the later one wins. What a
kill leaves lying about ends in ``.part``; no reader takes it for anything, and :func:`clean` removes it.
"""

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

PART = ".part"
"""How names of unfinished files end."""
_KEPT = 40
"""Characters of a file's name that its temporary name keeps: the longest legal name has no room for more."""


@contextmanager
def replacing(path: Path, durable: bool = True) -> Iterator[Path]:
    """Give a name beside ``path`` to write to; at the block's end that file is put in place, unless it raises.

    Where ``path`` is a link, that stays, and what it links to is replaced.

    Args:
        durable: survive a power cut too, which takes milliseconds a file.
    """
    path = path.resolve()
    part = path.with_name(f"{path.name[:_KEPT]}.{secrets.token_hex(4)}{PART}")
    try:
        yield part
        if durable:
            _sync(part)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    if durable:
        _sync(path.parent)


def write_atomically(path: Path, write: Callable[[Path], object], durable: bool = True) -> None:
    """Let ``write`` make the file of :func:`replacing`."""
    with replacing(path, durable) as part:
        write(part)


def save_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all; names of files that are no UTF-8 become their bytes again.

    What is no file of a folder, such as a pipe or /dev/stdout, is written to.
    """
    data = text.encode("utf-8", "surrogateescape")
    if _is_open(path) or (path.exists() and not path.is_file()):
        with path.open("ab") as file:  # what was written there stays
            file.write(data)
    else:
        write_atomically(path, lambda part: part.write_bytes(data))


def clean(folder: Path) -> None:
    """Remove what killed writers have left in ``folder`` and below; only while nobody else writes there."""
    for part in folder.rglob(f"*{PART}"):
        if part.is_file():
            part.unlink(missing_ok=True)


@cache
def note_saved() -> None:
    """Tell the script of the job, if it asks, that a next start would go on from something that this one has saved."""
    if path := os.environ.get("HPCFAST_SAVED"):
        with suppress(OSError):
            Path(path).touch()


def _is_open(path: Path) -> bool:
    """Whether it names a file that this process has open, as /dev/stdout does, and so its link must stay."""
    names = (path, path.readlink()) if path.is_symlink() else (path,)
    return any(name.parent.resolve().is_relative_to("/proc") for name in names)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
