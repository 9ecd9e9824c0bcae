"""Mirroring can be switched off, for classes that depend on the side."""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hpcfast.data import dali, plain, resident
from hpcfast.data.reader import read_splits
from tests.unit.loading import AUGMENTS, CPU, joined, settings


@pytest.mark.parametrize("flip", [True, False])
@pytest.mark.parametrize(("loader", "name"), [*product((dali, plain), AUGMENTS[1:]), (resident, "pad_crop_flip")])
def test_images_whose_sides_mean_something_are_not_mirrored(tmp_path: Path, loader: Any, name: str, flip: bool) -> None:
    for i in range(40):
        file = tmp_path / ("train" if i < 36 else "val") / "ab"[i % 2] / f"{i:02}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.tile(np.arange(0, 240, 10, dtype=np.uint8), (24, 1))).save(file)  # brighter to the right
    data = settings(tmp_path, 24, augment=name).model_copy(update={"flip": flip})
    split = read_splits(tmp_path)[0]
    x = joined(list(loader.batches(split, np.arange(36), data, CPU, 1, 6, 5))).x
    middle = x[..., 4:-4]
    mirrored = int((middle[..., -1] < middle[..., 0]).any(-1).any(-1).sum())
    assert (5 < mirrored < 31) if flip else mirrored == 0
