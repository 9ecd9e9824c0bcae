"""What images are like: sizes, colours, balance; what a configuration for them depends on."""

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from hpcfast.data.images import ImageError, opened
from hpcfast.data.reader import read_splits
from hpcfast.data.split import Split
from hpcfast.errors import UserError

SAMPLE = 300
"""Images that are decoded, evenly spread over the classes."""


class Survey(NamedTuple):
    """The images of a data set."""

    classes: dict[str, int]
    """Training images of each."""
    val: int
    """Validation images."""
    sides: tuple[int, int, int]
    """The shorter sides of those looked at, in pixels: least, median, most."""
    channels: int
    """1 if all are grey, else 3."""
    mean: tuple[float, ...]
    """Of the pixels, in [0,1], a channel."""
    std: tuple[float, ...]

    @property
    def train(self) -> int:
        """Training images."""
        return sum(self.classes.values())

    @property
    def imbalance(self) -> float:
        """How many times as many images the largest class has as the smallest."""
        return max(self.classes.values()) / max(1, min(self.classes.values()))


def look(root: Path) -> Survey:
    """Look at the data set ``root``, which training reads.

    Raises:
        UserError: it cannot be read, or none of the images looked at can.
    """
    train, val = read_splits(root)
    counts = Counter(train.labels.tolist())
    images = [image for i in train.evenly(SAMPLE).tolist() if (image := _image(train, i))]
    if not images:
        raise UserError(f"{root}: no image of {SAMPLE} can be read; 'hpcfast data verify {root}' says why")
    channels = 1 if all(image.mode == "L" for image in images) else 3
    mode = "L" if channels == 1 else "RGB"
    small = [np.asarray(image.convert(mode).resize((32, 32), Image.Resampling.BOX)) for image in images]
    large = [np.asarray(image.convert(mode)).reshape(-1, channels).std(0) for image in images]
    means = np.stack(small).reshape(len(images), -1, channels).mean(1) / 255
    # Of all pixels: what they vary by within images, and what these vary by among themselves.
    std = np.sqrt(np.square(np.stack(large) / 255).mean(0) + means.var(0))
    sides = sorted(min(image.size) for image in images)
    return Survey(
        {name: counts[label] for label, name in enumerate(train.classes)},
        len(val),
        (sides[0], sides[len(sides) // 2], sides[-1]),
        channels,
        tuple(round(float(each), 3) for each in means.mean(0)),
        tuple(round(max(float(each), 0.01), 3) for each in std),
    )


def _image(split: Split, i: int) -> Image.Image | None:
    try:
        return opened(split.encoded(i).tobytes())
    except (ImageError, OSError):
        return None
