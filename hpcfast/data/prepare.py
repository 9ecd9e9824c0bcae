"""``hpcfast data prepare``: write a data set as the image folder that training reads."""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hpcfast.data.sources import Source
from hpcfast.errors import UserError

MANIFEST = "dataset.json"


def prepare(source: Source, out: Path, progress: Callable[[int], None]) -> dict[str, Any]:
    """Write ``source`` to the folder ``out`` as PNG files, whole or not at all, and return its manifest.

    A finished ``out`` of the same data set is left as it is.

    Args:
        progress: called with the number of images written so far.

    Raises:
        UserError: ``out`` holds something else, or cannot be written.
    """
    out = out.resolve()
    try:
        manifest = json.loads((out / MANIFEST).read_text())
        if manifest["name"] == source.name:
            return manifest
    except (OSError, ValueError, KeyError, TypeError):
        pass  # no manifest of ours: not prepared by us
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--out {out} exists and is not a prepared {source.name}; give another folder or remove it")
    part = out.with_name(out.name + ".part")
    try:
        shutil.rmtree(part, ignore_errors=True)  # left by a run that was killed
        manifest = {"name": source.name, "images": _write(source, part, progress)}
        (part / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
        if out.exists():
            out.rmdir()
        part.rename(out)
    except OSError as error:
        raise UserError(f"--out {out} cannot be written: {error}. Give a folder on a disk with room.") from None
    return manifest


def _write(source: Source, folder: Path, progress: Callable[[int], None]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for split, label, image in source.items():
        target = folder / split / label
        if not target.is_dir():
            target.mkdir(parents=True)
        image.save(target / f"{counts[split]:06d}.png", compress_level=1)
        counts[split] += 1
        progress(counts.total())
    return dict(counts)
