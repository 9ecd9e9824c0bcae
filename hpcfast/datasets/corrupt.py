"""``hpcfast data corrupt``: write a data set's validation images corrupted, in ImageNet-C's layout.

Every file is a function of the image, its name, the corruption and the severity alone, and is there whole or not at
all. So a killed command, given again, only does what is missing.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from hpcfast.component import choices
from hpcfast.data.folder import read_split
from hpcfast.data.identity import identify
from hpcfast.data.images import ImageError, opened
from hpcfast.data.split import Split
from hpcfast.datasets.corruptions import CORRUPTIONS, SEVERITIES, corrupted
from hpcfast.datasets.unfinished import fill
from hpcfast.datasets.workers import work_on
from hpcfast.errors import UserError
from hpcfast.runs.files import replacing

MANIFEST = "corruptions.json"
SEED = 0
"""Of the noises."""
T = TypeVar("T")


def corrupt(
    data: Path,
    out: Path,
    images: int | None = None,
    progress: Callable[[int], None] = lambda done: None,
    names: Sequence[str] = tuple(CORRUPTIONS),
    severities: Sequence[int] = SEVERITIES,
) -> dict[str, Any]:
    """Write ``out/<corruption>/<severity>/<class>/<file>.png`` as :func:`fill` does; return the manifest.

    Args:
        images: so many of ``data/val``, evenly spread; all for None.
        progress: called with the number of images done so far, each with all its corruptions.

    Raises:
        UserError: ``data/val`` is no folder of classes, ``images`` leave a class without any, an image cannot be read,
            or ``out`` holds something else or cannot be written.
    """
    folder = data / "val"
    split = read_split(folder, "DATA").some(images if images is None else max(images, 1))
    if len(set(split.labels)) < len(split.classes):
        raise UserError(f"--images {images}: too few for {len(split.classes)} classes in {folder}; give more")
    files = _named(split)
    about = {
        "corruptions": list(names),
        "severities": list(severities),
        "seed": SEED,
        "images": len(files),
        "upright": True,  # what was made before images were turned as their EXIF data say is made anew
        "files": hashlib.sha256("\n".join(files).encode(errors="surrogateescape")).hexdigest(),
        "versions": {name: version(name) for name in ("hpcfast", "numpy", "pillow", "scipy")},
        "contents": identify(split).digest,
    }

    def write(part: Path) -> None:
        work_on(files.items(), partial(_write_one, part, list(product(names, severities))), 8, progress)

    return fill(out, MANIFEST, about, "these corruptions", write)


def chosen(option: str, text: str | None, legal: tuple[T, ...]) -> tuple[T, ...]:
    """Those of ``legal`` that ``text`` of a command line lists, in their own order; UserError if it lists another."""
    known = {str(value): value for value in legal}
    parts = list(known) if text is None else [part.strip() for part in text.split(",")]
    for part in parts:
        if part not in known:
            raise UserError(f"{option}: {choices(part, known)}")
    return tuple(value for part, value in known.items() if part in parts)


def rng(name: str, severity: int, file: str) -> np.random.Generator:
    """The random numbers of one image, named with its class folder, under one corruption."""
    digest = hashlib.sha256(f"{SEED}/{name}/{severity}/{file}".encode(errors="surrogateescape")).digest()
    return np.random.default_rng(np.frombuffer(digest, np.uint32))


def _named(split: Split) -> dict[str, str]:
    """What each image is called below a severity, and where it is."""
    files, names = split.files, [str(Path(name).with_suffix(".png")) for name in split.names()]
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        twins = [file for file, its in zip(files, names, strict=True) if its == name]
        raise UserError(f"{' and '.join(twins)} would both become {name}; rename one of them")
    return dict(zip(names, files, strict=True))


def _write_one(part: Path, kinds: list[tuple[str, int]], item: tuple[str, str]) -> None:
    """Write what is missing of one image."""
    file, source = item
    targets = {each: part / each[0] / str(each[1]) / file for each in kinds}
    missing = [each for each, target in targets.items() if not target.exists()]
    if not missing:
        return
    try:
        image = opened(Path(source).read_bytes())
    except (OSError, ImageError) as error:
        raise UserError(f"{source} cannot be read: {error}. Put a whole image there or remove it.") from None
    for each in missing:
        targets[each].parent.mkdir(parents=True, exist_ok=True)
        with replacing(targets[each], durable=False) as half:
            corrupted(image, *each, rng(*each, file)).save(half, "PNG", compress_level=1)
