"""What tests of corrupted folders share."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from hpcfast.config import RunConfig
from hpcfast.datasets.corrupt import corrupt

Tiny = Callable[..., RunConfig]


NAMES, SEVERITIES = ("contrast", "gaussian_noise"), (1, 5)
few = partial(corrupt, names=NAMES, severities=SEVERITIES)
CLASSES = ("class0", "class1", "class2")


def pngs(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*.png")}


def values(image: Image.Image) -> np.ndarray:
    return np.asarray(image) / 255
