"""The splits that ``data.path`` names, in whatever form: a folder, a pack, or ``synthetic:…``, which needs no disk."""

from pathlib import Path

from hpcfast.data import folder, packed, skips, synthetic
from hpcfast.data.split import Split


def read_splits(root: Path, listed: Path | None = None, copy: Path | None = None) -> tuple[Split, Split]:
    """List the ``train`` and ``val`` splits of ``root``, read from its ``copy`` if it is a pack that has one.

    Without the images in the list (see :mod:`hpcfast.data.skips`) ``listed``, by default ``root/skips.txt``.

    Raises:
        UserError: a split is missing or has fewer than two classes, a class is empty, or the classes differ.
    """
    if str(root).startswith("synthetic:"):
        return synthetic.read(str(root))
    train, val = packed.read(root, copy) if packed.is_pack(root) else folder.read(root)
    own = root / skips.NAME
    names = skips.read(listed or own) if listed or own.exists() else {}
    return skips.without(train, names), skips.without(val, names)
