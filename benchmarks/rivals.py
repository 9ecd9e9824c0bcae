"""torchvision's loaders, on the very crops that ours takes: what a user would run who has no DALI."""

import io
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms import functional
from torchvision.transforms.v2 import functional as v2

from hpcfast.data import augment
from hpcfast.data.split import Split

Window = tuple[int, int, int, int]
"""Top, left, height, width, pixels."""


class Crops(Dataset[tuple[Tensor, int]]):
    """Random crops of the images ``ids`` of a split: shape (3, size, size), float32, in [0,1]; and their classes."""

    def __init__(self, split: Split, ids: np.ndarray, key: int, size: int, read: "Reader") -> None:
        self._split, self._ids, self._size, self._read = split, ids.tolist(), size, read
        mirror, form, area, place = augment.crops(augment.uniform(key, ids))
        self._draws = list(zip(mirror, form, area, place, strict=True))

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        mirror, *draws = self._draws[i]
        image = self._ids[i]

        def crop(height: int, width: int) -> Window:
            return augment.window(np.array([height, width]), *draws)

        x = self._read(self._split.encoded(image), crop, bool(mirror), self._size)
        return x, int(self._split.labels[image])


Reader = Callable[[np.ndarray, Callable[[int, int], Window], bool, int], Tensor]
"""From encoded bytes, the window of an image of (height, width), whether to mirror, and the size, to pixels."""


def pil(encoded: np.ndarray, crop: Callable[[int, int], Window], mirror: bool, size: int) -> Tensor:
    """Decode all of it with Pillow: torchvision's default."""
    image = Image.open(io.BytesIO(encoded.tobytes())).convert("RGB")
    image = functional.resized_crop(image, *crop(image.height, image.width), [size, size])
    return functional.to_tensor(functional.hflip(image) if mirror else image)


def decode_jpeg(encoded: np.ndarray, crop: Callable[[int, int], Window], mirror: bool, size: int) -> Tensor:
    """Decode all of it with libjpeg-turbo, to a tensor."""
    image = decode_image(torch.as_tensor(np.array(encoded)), ImageReadMode.RGB)
    image = v2.resized_crop(image, *crop(image.shape[1], image.shape[2]), [size, size], antialias=True)
    return v2.to_dtype(v2.horizontal_flip(image) if mirror else image, torch.float32, scale=True)
