"""Folders that are there whole or not at all, and whose writing resumes where a kill stopped it.

Until all is written the folder's name ends in ``.part``. A file in it, the manifest, says what it is made from.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hpcfast.errors import UserError
from hpcfast.runs.files import PART, clean, save_text
from hpcfast.runs.reading import read_json

Manifest = dict[str, Any]


def fill(out: Path, name: str, about: Manifest, what: str, write: Callable[[Path], Manifest | None]) -> Manifest:
    """Have ``write`` fill the folder ``out``, unless it was finished from the same; return its manifest.

    Args:
        name: of the manifest's file.
        about: all that the files depend on; as JSON has it.
        what: it is, for messages, e.g. ``this synthetic data set``.
        write: does only what is missing in the folder that it is given; returns what more the manifest is to say.

    Raises:
        UserError: ``out`` holds something else, or cannot be written.
    """
    out = out.resolve()
    if found := _find(out, name, about, what):
        return found
    part = out.with_name(out.name + PART)
    with writable(out):
        if not _find(part, name, about, what):
            part.mkdir(parents=True, exist_ok=True)
            save(part / name, about)
        clean(part)  # of a command that was killed
        manifest = about | (write(part) or {})
        save(part / name, manifest)
        if out.exists():
            out.rmdir()  # it is empty
        part.rename(out)
    return manifest


def _find(place: Path, name: str, about: Manifest, what: str) -> Manifest | None:
    """The manifest in ``place``, if it says all that ``about`` does; None if nothing is there, UserError otherwise."""
    # First, since another node may be writing the file: only then comes what else is there.
    taken = place.exists() and not (place.is_dir() and all(_left_by_kill(each, name) for each in place.iterdir()))
    try:
        found = read_json(place / name)
    except (OSError, ValueError):
        found = None  # no such file of ours
    odd = []
    if isinstance(found, dict):
        odd = [key for key, value in about.items() if found.get(key) != value]
        if not odd:
            return found
    if taken:
        hint = f" (made with other {', '.join(odd)})" if odd else ""
        raise UserError(f"{place} exists and is not {what}{hint}; give another folder or remove it")
    return None


def save(path: Path, manifest: Manifest) -> None:
    """Write a manifest, whole or not at all."""
    save_text(path, json.dumps(manifest, indent=1) + "\n")


@contextmanager
def writable(place: Path) -> Iterator[None]:
    """Raise a UserError that names ``place`` instead of an OSError in the block."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{place} cannot be written: {error}. Give a folder on a disk with room; what is done is kept."
        ) from None


def _left_by_kill(file: Path, name: str) -> bool:
    return file.name.startswith(name) and file.name.endswith(PART)
