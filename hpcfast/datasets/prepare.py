"""``hpcfast data prepare``: write a data set as the image folder that training reads."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unicodedata import category

from PIL import Image

from hpcfast.datasets.sources import Source, images_in
from hpcfast.datasets.unfinished import fill
from hpcfast.errors import UserError
from hpcfast.runs.files import write_atomically

MANIFEST = "dataset.json"


def prepare(source: Source, out: Path, progress: Callable[[int], None]) -> dict[str, Any]:
    """Write ``source`` to the folder ``out`` as :func:`fill` does, and return its manifest.

    Pixels become PNG files; files that are images already are copied as they are or linked to. ``progress`` is told
    how many images are written.
    """

    def write(part: Path) -> dict[str, Any]:
        counts: Counter[str] = Counter()
        for split, label, image, name in source.items():
            for given in (label, name or "image"):
                if not given or given.startswith(".") or "/" in given or any(category(char) == "Cc" for char in given):
                    raise UserError(
                        f"--source {source.source}: {given!r:.100} is no name of a class or an image; fetch the data "
                        "set again"
                    )
            target = part / split / label
            if isinstance(image, Path) and name is None:
                target.parent.mkdir(exist_ok=True)
                _put(image, target)
                counts[split] += len(images_in(image))
            else:
                _drop_link(target)
                if not target.is_dir():
                    target.mkdir(parents=True)
                _put(image, target / (name or f"{counts[split]:06d}.png"))
                counts[split] += 1
            progress(counts.total())
        return {"images": dict(counts)} | ({"remarks": said} if (said := source.remarks()) else {})

    return fill(out, MANIFEST, source.about(), f"a prepared {source.name}", write)


def _put(image: Image.Image | bytes | Path, target: Path) -> None:
    _drop_link(target)
    if isinstance(image, Path):
        target.unlink(missing_ok=True)
        target.symlink_to(image.absolute())
    elif isinstance(image, Image.Image):
        write_atomically(target, lambda part: image.save(part, "PNG", compress_level=1), durable=False)
    elif not target.exists() or target.stat().st_size != len(image):  # a power cut may leave it too short
        write_atomically(target, lambda part: part.write_bytes(image), durable=False)


def _drop_link(target: Path) -> None:
    """Remove a link that a killed command made to another source, which is not to be written to."""
    if target.is_symlink():
        target.unlink()
