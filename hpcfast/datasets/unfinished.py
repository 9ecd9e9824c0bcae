"""Folders of files that are there whole or not at all, and whose writing goes on where a kill stopped it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hpcfast.errors import UserError
from hpcfast.runs import files


def fill(out: Path, name: str, manifest: dict[str, Any], what: str, write: Callable[[Path], None]) -> None:
    """Have ``write`` fill the folder ``out``; until it is done the folder's name ends in ``.part``.

    A folder that was finished with the same manifest is left as it is, one that was begun is gone on with: ``write``
    must do only what is missing.

    Args:
        name: of the manifest's file.
        manifest: all that the files depend on.
        what: it is, for messages, e.g. ``this synthetic data set``.

    Raises:
        UserError: ``out`` holds something else, or cannot be written.
    """
    out = out.resolve()
    part = out.with_name(out.name + ".part")
    if _holds(out, name, manifest, what):
        return
    try:
        if not _holds(part, name, manifest, what):
            part.mkdir(parents=True, exist_ok=True)
            files.save_text(part / name, json.dumps(manifest, indent=1) + "\n")
        files.clean(part)  # of a command that was killed
        write(part)
        if out.exists():
            out.rmdir()
        part.rename(out)
    except OSError as error:
        raise UserError(f"--out {out} cannot be written: {error}. Give a folder on a disk with room.") from None


def _holds(place: Path, name: str, manifest: dict[str, Any], what: str) -> bool:
    try:
        found = json.loads((place / name).read_text())
    except (OSError, ValueError):
        found = None  # no manifest of ours
    if found == manifest:
        return True
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        odd = [key for key, value in manifest.items() if found.get(key) != value] if isinstance(found, dict) else []
        hint = f" (made with other {', '.join(odd)})" if odd else ""
        raise UserError(f"{place} holds something else than {what}{hint}; give another folder or remove it")
    return False
