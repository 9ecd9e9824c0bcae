"""``hpcfast data prepare``: write a data set as the image folder that training reads."""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from hpcfast.datasets.sources import Source, images_in
from hpcfast.errors import UserError
from hpcfast.runs.files import clean, save_text, write_atomically

MANIFEST = "dataset.json"


def prepare(source: Source, out: Path, progress: Callable[[int], None]) -> dict[str, Any]:
    """Write ``source`` to the folder ``out``, whole or not at all, and return its manifest.

    Pixels become PNG files; files that are images already are copied as they are or linked to. A finished ``out`` of
    the same data set is left as it is. Until all is written the folder's name ends in ``.part``: a killed preparation,
    given again, goes on there.

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
        _begin(part, {"unfinished": repr(source)})
        manifest = {"name": source.name, "images": _write(source, part, progress)}
        save_text(part / MANIFEST, json.dumps(manifest, indent=1) + "\n")
        if out.exists():
            out.rmdir()
        part.rename(out)
    except OSError as error:
        raise UserError(f"--out {out} cannot be written: {error}. Give a folder on a disk with room.") from None
    return manifest


def _begin(part: Path, settings: dict[str, Any]) -> None:
    """Make the folder, or keep the one that a killed preparation with the same settings left."""
    try:
        if json.loads((part / MANIFEST).read_text()) == settings:
            clean(part)
            return
    except (OSError, ValueError):
        pass  # nothing that could be used
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    save_text(part / MANIFEST, json.dumps(settings))


def _write(source: Source, folder: Path, progress: Callable[[int], None]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for split, label, image, name in source.items():
        target = folder / split / label
        if isinstance(image, Path) and name is None:
            target.parent.mkdir(exist_ok=True)
            _link(image, target)
            counts[split] += len(images_in(image))
        else:
            if not target.is_dir():
                target.mkdir(parents=True)
            _put(image, target / (name or f"{counts[split]:06d}.png"))
            counts[split] += 1
        progress(counts.total())
    return dict(counts)


def _put(image: Image.Image | bytes | Path, target: Path) -> None:
    if isinstance(image, Path):
        _link(image, target)
    elif isinstance(image, Image.Image):
        write_atomically(target, lambda part: image.save(part, "PNG", compress_level=1), durable=False)
    elif not target.exists() or target.stat().st_size != len(image):  # a power cut may leave it too short
        write_atomically(target, lambda part: part.write_bytes(image), durable=False)


def _link(image: Path, target: Path) -> None:
    if not target.is_symlink():
        target.symlink_to(image.absolute())
