"""Image folders: ``train/`` and ``val/``, in each one folder a class.

A class's images may be in folders of any depth below its own (:mod:`hpcfast.data.listing`).
"""

from pathlib import Path

import numpy as np

from hpcfast.data.images import SUFFIXES
from hpcfast.data.listing import folders_in, images_below, kinds
from hpcfast.data.split import Split
from hpcfast.errors import UserError


def read(root: Path) -> tuple[Split, Split]:
    """List the ``train`` and ``val`` splits of the folder ``root``.

    Raises:
        UserError: a split is missing or has fewer than two classes, a class is empty, or the classes differ.
    """
    train, val = (read_split(root / name) for name in ("train", "val"))
    if train.classes != val.classes:
        odd = sorted(set(train.classes) ^ set(val.classes))
        raise UserError(
            f"{root}: train and val must have the same classes; only in one of them: {', '.join(odd[:5])}. "
            f"Add the missing class folders or remove the surplus ones."
        )
    return train, val


def read_split(root: Path, setting: str = "data.path") -> Split:
    """List the images in ``root``, which has one folder a class.

    Args:
        setting: what the user calls the place, for messages.

    Raises:
        UserError: ``root`` is missing or has fewer than two classes, or a class is empty.
    """
    if not root.is_dir():
        raise UserError(
            f"{setting}: no folder {root}. A data set is a folder with train/ and val/, in each one folder a "
            f"class; make one with 'hpcfast data prepare', or give another {setting}."
        )
    classes, loose = folders_in(str(root))
    if len(classes) < 2:
        raise UserError(
            f"{setting}: {root} has {len(classes)} class folders ({', '.join(classes) or 'none'}); "
            f"at least 2 are needed, one folder a class."
        )
    files: list[str] = []
    labels: list[int] = []
    unread = kinds(loose)
    for label, name in enumerate(classes):
        found = images_below(f"{root}/{name}")
        if not found.images:
            raise UserError(
                f"{setting}: class folder {root / name} holds no image ({', '.join(SUFFIXES)}). "
                f"Put images there or remove the class everywhere."
            )
        files += found.images
        labels += [label] * len(found.images)
        unread += kinds(found.others)
    return Split(root, files, np.array(labels), tuple(classes), unread=unread)
