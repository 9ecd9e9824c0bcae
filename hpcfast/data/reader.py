"""The splits that ``data.path`` names, in whatever form: a folder, a pack, or ``synthetic:…``, which needs no disk."""

import re
from pathlib import Path

import numpy as np

from hpcfast.data import folder, packed, skips
from hpcfast.data.made import SyntheticSplit
from hpcfast.data.split import Split
from hpcfast.errors import UserError

SYNTHETIC_VAL = 20
"""For so many synthetic training images there is one to validate with, and at least one a class."""


def read_splits(root: Path, listed: Path | None = None, copy: Path | None = None) -> tuple[Split, Split]:
    """List the ``train`` and ``val`` splits of ``root``, read from its ``copy`` if it is a pack that has one.

    Without the images in the list (see :mod:`hpcfast.data.skips`) ``listed``, by default ``root/skips.txt``.

    Raises:
        UserError: a split is missing or has fewer than two classes, a class is empty, or the classes differ.
    """
    if str(root).startswith("synthetic:"):
        return _synthetic(str(root))
    train, val = packed.read(root, copy) if packed.is_pack(root) else folder.read(root)
    own = root / skips.NAME
    names = skips.read(listed or own) if listed or own.exists() else {}
    return skips.without(train, names), skips.without(val, names)


def _synthetic(text: str) -> tuple[SyntheticSplit, SyntheticSplit]:
    match = re.fullmatch(r"synthetic:(\d{1,10})x(\d{1,10})", text)
    images, classes = (int(number) for number in match.groups()) if match else (0, 0)
    if not 2 <= classes <= images:
        raise UserError(
            f"data.path: '{text}' must be synthetic:IMAGESxCLASSES, with at least 2 classes and an image for each, "
            f"e.g. synthetic:100000x1000"
        )
    names = tuple(f"class{label:05d}" for label in range(classes))

    def split(name: str, n: int) -> SyntheticSplit:
        files = [f"{text}/{name}/{i:08d}" for i in range(n)]
        return SyntheticSplit(Path(text), files, np.arange(n) * classes // n, names)

    return split("train", images), split("val", max(classes, images // SYNTHETIC_VAL))
