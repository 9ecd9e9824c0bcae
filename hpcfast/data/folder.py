"""Image folders: ``train/`` and ``val/``, in each one folder a class, which is read to any depth, as torchvision does.

Hidden files and folders (``.ipynb_checkpoints``, ``._photo.jpg``) are no data. What else is not read is counted, so
that nobody trains on a third of a class without knowing.
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath

import numpy as np

from hpcfast.data.images import SUFFIXES
from hpcfast.data.split import Split
from hpcfast.errors import UserError


def read(root: Path) -> tuple[Split, Split]:
    """List the ``train`` and ``val`` splits of the folder ``root``; UserError also if their classes differ."""
    train, val = (read_split(root / name) for name in ("train", "val"))
    if train.classes != val.classes:
        odd = sorted(set(train.classes) ^ set(val.classes))
        raise UserError(
            f"{root}: train and val must have the same classes; only in one of them: {', '.join(odd[:5])}. "
            f"Add the missing class folders or remove the surplus ones."
        )
    return train, val


def read_split(root: Path, setting: str = "data.path") -> Split:
    """List the images in ``root``, which has one folder a class; ``setting`` is what the user calls the place.

    Raises:
        UserError: ``root`` is missing or cannot be read, or has fewer than two classes, or a class is empty.
    """
    try:
        if not root.is_dir():
            raise UserError(
                f"{setting}: no folder {root}. A data set is a folder with train/ and val/, in each one folder a "
                f"class; make one with 'hpcfast data prepare', or give another {setting}."
            )
        classes, loose = folders_in(str(root))
        listed = [images_below(f"{root}/{name}") for name in classes]
    except OSError as error:
        raise UserError(
            f"{setting}: {root} cannot be read: {error}. Make it readable, or give another {setting}."
        ) from None
    if len(classes) < 2:
        raise UserError(
            f"{setting}: {root} has {len(classes)} class folders ({', '.join(classes) or 'none'}); "
            f"at least 2 are needed, one folder a class."
        )
    files: list[str] = []
    labels: list[int] = []
    unread = kinds(loose)
    for label, (name, (images, others)) in enumerate(zip(classes, listed, strict=True)):
        if not images:
            raise UserError(
                f"{setting}: class folder {root / name} holds no image ({', '.join(SUFFIXES)}). "
                f"Put images there or remove the class everywhere."
            )
        files += images
        labels += [label] * len(images)
        unread += kinds(others)
    return Split(root, files, np.array(labels), tuple(classes), unread=unread)


def folders_in(folder: str) -> tuple[list[str], list[str]]:
    """Names of the class folders in ``folder``, and of all else that is not hidden; sorted. Nothing if it is none."""
    if not os.path.isdir(folder):  # noqa: PTH112 - text, see below
        return [], []
    with os.scandir(folder) as entries:
        listed = sorted((entry.name, entry.is_dir()) for entry in entries if not entry.name.startswith("."))
    return [name for name, is_folder in listed if is_folder], [name for name, is_folder in listed if not is_folder]


def images_below(folder: str) -> tuple[list[str], list[str]]:
    """Paths of the images in ``folder``, to any depth, and of its other files; sorted.

    Links are followed, but never back into a folder that holds them.
    """
    images: list[str] = []
    others: list[str] = []
    for file in sorted(_walk(folder, (os.path.realpath(folder),))):
        (images if file.lower().endswith(SUFFIXES) else others).append(file)
    return images, others


def _walk(folder: str, inside: tuple[str, ...]) -> Iterator[str]:
    # Text, not Path: a million of those would take a minute and a gigabyte.
    with os.scandir(folder) as entries:
        for entry in entries:
            path = f"{folder}/{entry.name}"
            if entry.name.startswith("."):
                continue
            if not entry.is_dir():
                yield path
            elif (real := os.path.realpath(path)) not in inside:
                yield from _walk(path, (*inside, real))


def kinds(files: Iterable[str]) -> Counter[str]:
    """How many files there are of each suffix."""
    return Counter(PurePath(file).suffix.lower() or "no suffix" for file in files)


def remark(split: Split) -> list[str]:
    """What to say of files of ``split`` that are not read; nothing if there are none."""
    if not split.unread:
        return []
    return [
        f"{split.root}: {split.unread.total():,} files are not read ({described(split.unread)}); 'hpcfast data verify' "
        f"names them, images end in {', '.join(SUFFIXES)}"
    ]


def described(unread: Counter[str]) -> str:
    """Counts of files that are not read, for a message: ``46 .heic, 1 .txt``."""
    shown = [f"{count:,} {kind}" for kind, count in unread.most_common(5)]
    return ", ".join(shown) + (" …" if len(unread) > 5 else "")
