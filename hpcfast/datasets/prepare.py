"""``hpcfast data prepare``: write a data set as the image folder that training reads."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from hpcfast.datasets.sources import Source, images_in
from hpcfast.datasets.unfinished import fill
from hpcfast.runs.files import write_atomically

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

    def write(part: Path) -> dict[str, Any]:
        return {"images": _write(source, part, progress)}

    return fill(out, MANIFEST, {"name": source.name}, f"a prepared {source.name}", write)


def _write(source: Source, folder: Path, progress: Callable[[int], None]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for split, label, image, name in source.items():
        target = folder / split / label
        if isinstance(image, Path) and name is None:
            target.parent.mkdir(exist_ok=True)
            _put(image, target)
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
        target.unlink(missing_ok=True)  # an earlier link may lead to another source
        target.symlink_to(image.absolute())
    elif isinstance(image, Image.Image):
        write_atomically(target, lambda part: image.save(part, "PNG", compress_level=1), durable=False)
    elif not target.exists() or target.stat().st_size != len(image):  # a power cut may leave it too short
        write_atomically(target, lambda part: part.write_bytes(image), durable=False)
