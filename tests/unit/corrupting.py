"""What tests of corrupted folders share."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from hpcfast.config import RunConfig
from hpcfast.datasets.corrupt import Plan

Tiny = Callable[..., RunConfig]


FEW = Plan(("contrast", "gaussian_noise"), (1, 5), seed=3)
CLASSES = ("class0", "class1", "class2")


def ignore(done: int) -> None:
    """No progress is shown."""


def pngs(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*.png")}


def values(image: Image.Image) -> np.ndarray:
    return np.asarray(image) / 255
