"""Folders that are there whole or not at all, and whose writing resumes where a kill stopped it.

Until all is written the folder's name ends in ``.part``. A file in it says what it is made from, in JSON.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hpcfast.errors import UserError
from hpcfast.runs.files import PART, clean, is_part, save_text


def fill(out: Path, name: str, manifest: dict[str, Any], what: str, write: Callable[[Path], None]) -> None:
    """Have ``write`` fill the folder ``out``, unless it was finished with the same manifest.

    Args:
        name: of the manifest's file.
        manifest: all that the files depend on.
        what: it is, for messages, e.g. ``this synthetic data set``.
        write: does only what is missing in the folder that it is given.

    Raises:
        UserError: ``out`` holds something else, or cannot be written.
    """
    out, text = out.resolve(), json.dumps(manifest, indent=1) + "\n"
    if holds(out, name, text, what):
        return
    with writable(f"--out {out}"):
        part = begin(out, name, text, what)
        clean(part)  # of a command that was killed
        write(part)
        finish(part, out)


def holds(place: Path, name: str, text: str, what: str) -> bool:
    """Whether the file ``name`` in ``place`` says all that ``text`` says; False where there is nothing yet.

    Raises:
        UserError: ``place`` holds something else than ``what``.
    """
    # First, since another node may be writing the file: only then comes what else is there.
    taken = place.exists() and (not place.is_dir() or any(not _left_by_kill(each, name) for each in place.iterdir()))
    try:
        found = json.loads((place / name).read_text())
    except (OSError, ValueError):
        found = None  # no such file of ours
    odd = []
    if isinstance(found, dict):
        odd = [key for key, value in json.loads(text).items() if found.get(key) != value]
        if not odd:
            return True
    if taken:
        hint = f" (made with other {', '.join(odd)})" if odd else ""
        raise UserError(f"{place} exists and is not {what}{hint}; give another folder or remove it")
    return False


def begin(out: Path, name: str, text: str, what: str) -> Path:
    """The folder in which ``out`` grows, new or begun before; its file ``name`` says ``text``.

    Raises:
        UserError: something else than ``what`` is growing there.
    """
    part = out.with_name(out.name + PART)
    if not holds(part, name, text, what):
        part.mkdir(parents=True, exist_ok=True)
        save_text(part / name, text)
    return part


def finish(part: Path, out: Path) -> None:
    """Give a folder its name, when all is in it; an empty folder makes way."""
    if out.exists():
        out.rmdir()
    part.rename(out)


@contextmanager
def writable(place: str, cure: str = "Give a folder on a disk with room.") -> Iterator[None]:
    """Say which ``place`` a disk does not take, e.g. ``--out data``.

    Raises:
        UserError: instead of an OSError in the block.
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"{place} cannot be written: {error}. {cure}") from None


def _left_by_kill(file: Path, name: str) -> bool:
    return file.name.startswith(name) and is_part(file.name)
