"""Fashion-MNIST (Xiao, Rasul, Vollgraf 2017) from its published IDX files; Debian ships them too."""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from hpcfast.datasets.sources import Item, Source
from hpcfast.errors import UserError

CLASSES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle-boot")
SPLITS = {"train": "train", "val": "t10k"}
_UNSIGNED_BYTE = 8


class FashionMnist(Source):
    """60,000 training and 10,000 validation images, 28x28, grey."""

    def items(self) -> Iterator[Item]:
        source = self.needed(
            "the folder of its four IDX files (on Debian: apt install dataset-fashion-mnist, "
            "then --source /usr/share/datasets/fashion-mnist)"
        )
        for split, prefix in SPLITS.items():
            images = read_idx(_find(source, f"{prefix}-images-idx3-ubyte"))
            labels = read_idx(_find(source, f"{prefix}-labels-idx1-ubyte"))
            if not 0 < len(images) == len(labels) or labels.max() >= len(CLASSES):
                raise UserError(
                    f"--source {source}: {prefix} has {len(images)} images and {len(labels)} labels up to "
                    f"{labels.max(initial=0)}; Fashion-MNIST has as many of both, labels 0 to 9. Fetch its files again."
                )
            for image, label in zip(images, labels, strict=True):
                yield Item(split, f"{label}-{CLASSES[label]}", Image.fromarray(image))


def read_idx(path: Path) -> np.ndarray:
    """Read an IDX file of unsigned bytes (gzipped or not); UserError if it is damaged or of another type."""
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        dimensions = data[3]
        shape = np.frombuffer(data, ">u4", dimensions, offset=4)
        values = np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions)
        if data[:3] != bytes([0, 0, _UNSIGNED_BYTE]) or values.size != shape.prod():
            raise ValueError(f"{values.size} values, {shape.tolist()} announced")
    except (OSError, EOFError, ValueError, IndexError, zlib.error) as error:
        raise UserError(f"{path} is no whole IDX file of bytes: {error}. Fetch the data set's files again.") from None
    return values.reshape(shape)


def _find(folder: Path, name: str) -> Path:
    for path in (folder / f"{name}.gz", folder / name):
        if path.is_file():
            return path
    raise UserError(f"--source {folder}: no {name} or {name}.gz there; it must hold Fashion-MNIST's four IDX files")
