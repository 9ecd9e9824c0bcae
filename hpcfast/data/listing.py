"""Which files of a folder are images of which class: class folders are read to any depth, as torchvision does.

Hidden files and folders (``.ipynb_checkpoints``, ``._photo.jpg``) are no data. What else is not read is counted, so
that nobody trains on a third of a class without knowing.
"""

import os
from collections import Counter
from pathlib import PurePath
from typing import NamedTuple

from hpcfast.data.images import SUFFIXES


class Listing(NamedTuple):
    """What is in one folder and all folders below it."""

    images: list[str]
    """Paths, sorted."""
    others: list[str]
    """Paths of files that no image reader is tried on, sorted."""


def images_below(folder: str) -> Listing:
    """List ``folder`` to any depth; links are followed, but never back into a folder that holds them."""
    images: list[str] = []
    others: list[str] = []
    _walk(folder, (os.path.realpath(folder),), images, others)
    return Listing(sorted(images), sorted(others))


def _walk(folder: str, inside: tuple[str, ...], images: list[str], others: list[str]) -> None:
    # Text, not Path: a million of those would take a minute and a gigabyte.
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            path = f"{folder}/{entry.name}"
            if entry.is_dir():
                real = os.path.realpath(path)
                if real not in inside:
                    _walk(path, (*inside, real), images, others)
            else:
                (images if entry.name.lower().endswith(SUFFIXES) else others).append(path)


def folders_in(folder: str) -> tuple[list[str], list[str]]:
    """Names of the class folders in ``folder``, and of all else that is not hidden; sorted. Nothing if it is none."""
    if not os.path.isdir(folder):  # noqa: PTH112 - text, see above
        return [], []
    with os.scandir(folder) as entries:
        listed = sorted((entry.name, entry.is_dir()) for entry in entries if not entry.name.startswith("."))
    return [name for name, is_folder in listed if is_folder], [name for name, is_folder in listed if not is_folder]


def kinds(paths: list[str]) -> Counter[str]:
    """How many files there are of each suffix."""
    return Counter(PurePath(path).suffix.lower() or "no suffix" for path in paths)


def remark(root: object, unread: Counter[str]) -> list[str]:
    """What to say of files in ``root`` that are not read; nothing if there are none."""
    if not unread:
        return []
    return [
        f"{root}: {unread.total():,} files are not read ({described(unread)}); 'hpcfast data verify' names them, "
        f"images end in {', '.join(SUFFIXES)}"
    ]


def described(unread: Counter[str]) -> str:
    """Counts of files that are not read, for a message: ``46 .heic, 1 .txt``."""
    shown = [f"{count:,} {kind}" for kind, count in unread.most_common(5)]
    return ", ".join(shown) + (" …" if len(unread) > 5 else "")
