"""``hpcfast data prepare``: write a data set as the image folder that training reads."""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from hpcfast.datasets.sources import Source, images_in
from hpcfast.datasets.unfinished import begin, finish, holds, writable
from hpcfast.errors import UserError
from hpcfast.runs.files import PART, clean, save_text, write_atomically

MANIFEST = "dataset.json"


def prepare(source: Source, out: Path, progress: Callable[[int], None]) -> dict[str, Any]:
    """Write ``source`` to the folder ``out``, whole or not at all, and return its manifest.

    Pixels become PNG files; files that are images already are copied as they are or linked to. A finished ``out`` of
    the same data set is left as it is. Until all is written the folder's name ends in ``.part``: a killed preparation,
    given again, resumes there.

    Args:
        progress: called with the number of images written so far.

    Raises:
        UserError: ``out`` holds something else, or cannot be written.
    """
    out, what = out.resolve(), f"a prepared {source.name}"
    if holds(out, MANIFEST, json.dumps({"name": source.name}), what):
        return json.loads((out / MANIFEST).read_text())
    begun = json.dumps({"unfinished": repr(source)})
    with writable(f"--out {out}"):
        try:
            part = begin(out, MANIFEST, begun, what)
        except UserError:  # a preparation with other settings was killed
            part = out.with_name(out.name + PART)
            shutil.rmtree(part)
            begin(out, MANIFEST, begun, what)
        clean(part)
        manifest = {"name": source.name, "images": _write(source, part, progress)}
        save_text(part / MANIFEST, json.dumps(manifest, indent=1) + "\n")
        finish(part, out)
    return manifest


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
