"""``hpcfast data synthetic``: an image folder like ImageNet's, of any size, to test a cluster without ImageNet.

Each JPEG is a part of one of three photographs that ship with packages we require, cut out, mirrored and coloured
anew. Its class says which photograph and hue: there is something to learn. Every file is a function of its number and
the settings, and is there whole or not at all; so a killed command, given again, writes what is missing.
"""

import math
import re
from collections.abc import Callable
from functools import cache, partial
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from hpcfast.data.images import opened
from hpcfast.datasets.prepare import MANIFEST
from hpcfast.datasets.unfinished import fill
from hpcfast.datasets.workers import work_on
from hpcfast.errors import UserError
from hpcfast.runs.files import replacing

PHOTOS = (
    ("sklearn", "datasets/images/china.jpg"),
    ("sklearn", "datasets/images/flower.jpg"),
    ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
)
SIZES = ((500, 375), (500, 375), (500, 375), (375, 500), (500, 333), (500, 500), (640, 480), (320, 240))
"""Width and height, pixels, each as often as it is listed: the forms that ImageNet's photographs mostly have."""
QUALITY = 97
"""Of the JPEGs. The photographs are stretched a little, and so smooth that less would give files below 100 kB."""
GOLDEN = (math.sqrt(5) - 1) / 2
"""Steps of this part of a circle never meet: hues of few classes lie far apart."""
VAL = 20
"""For so many training images one is written to validate with, and at least one a class."""
CHUNK = 32
SEED = 0


class Recipe(NamedTuple):
    """What the user asked for; ``size`` is (width, height) in pixels, None for a mixture like ImageNet's."""

    images: int
    classes: int
    size: tuple[int, int] | None = None

    @classmethod
    def of(cls, images: int, classes: int, size: str | None) -> "Recipe":
        """The recipe of a command line; UserError if there is no such size, or too few images or classes."""
        match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", size or "1x1")
        if not match:
            raise UserError(f"--size '{size}': give width and height in pixels, e.g. 500x375")
        if not 2 <= classes <= images:
            raise UserError(
                f"--images {images} --classes {classes}: at least 2 classes are needed, and an image for each"
            )
        return cls(images, classes, (int(match[1]), int(match[2])) if size else None)

    def counts(self) -> dict[str, int]:
        """Images of each split."""
        return {"train": self.images, "val": max(self.classes, self.images // VAL)}


def synthesise(recipe: Recipe, out: Path, progress: Callable[[int], None]) -> dict[str, Any]:
    """Write the folder ``out`` as :func:`fill` does and return its manifest; tell ``progress`` how many are done."""
    size = recipe.size and list(recipe.size)
    asked = {"images": recipe.counts(), "classes": recipe.classes, "size": size}
    about = {"name": "synthetic", **asked, "seed": SEED, "pillow": version("pillow")}
    jobs = [(split, number) for split, count in recipe.counts().items() for number in range(count)]

    def write(part: Path) -> None:
        work_on(jobs, partial(_write_one, recipe, part), CHUNK, progress)

    return fill(out, MANIFEST, about, "this synthetic data set", write)


def _write_one(recipe: Recipe, part: Path, job: tuple[str, int]) -> None:
    split, number = job
    label = number * recipe.classes // recipe.counts()[split]
    target = part / split / f"class{label:05d}" / f"{split}_{number:08d}.jpg"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target, durable=False) as half:
            drawn(recipe, split, number, label).save(half, "JPEG", quality=QUALITY)


def drawn(recipe: Recipe, split: str, number: int, label: int) -> Image.Image:
    """One image of a class, a function of its number: a random part of the class's photograph in its hue."""
    rng = np.random.default_rng([SEED, sorted(recipe.counts()).index(split), number])
    photo = _photo(label % len(PHOTOS))
    width, height = recipe.size or SIZES[rng.integers(len(SIZES))]
    scale = rng.uniform(0.6, 1) * min(photo.width / width, photo.height / height)
    left, top = rng.uniform(size=2) * (photo.width - scale * width, photo.height - scale * height)
    box = (left, top, left + scale * width, top + scale * height)
    image = photo.resize((width, height), Image.Resampling.BICUBIC, box)
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    hue = label // len(PHOTOS) * GOLDEN + rng.normal(scale=0.01)
    return image.convert("RGB", _turned(hue, rng.uniform(0.7, 1.2)))


@cache
def _photo(number: int) -> Image.Image:
    package, path = PHOTOS[number]
    return opened((files(package) / path).read_bytes()).convert("RGB")


def _turned(hue: float, brightness: float) -> tuple[float, ...]:
    """The matrix, as Pillow takes it, that turns colours about the grey axis by so much of a circle."""
    cos, sin = math.cos(2 * math.pi * hue), math.sin(2 * math.pi * hue)
    same, next_, last = (1 + 2 * cos) / 3, (1 - cos) / 3 - sin / math.sqrt(3), (1 - cos) / 3 + sin / math.sqrt(3)
    rows = ((same, next_, last, 0), (last, same, next_, 0), (next_, last, same, 0))
    return tuple(brightness * value for row in rows for value in row)
