"""Reading CIFAR's published archives, which are pickles, without running the code that a pickle may hold."""

import io
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hpcfast.datasets.sources import DAMAGES, Item, extracted
from hpcfast.errors import UserError

SIDE = 32
_reconstruct = np.empty(0).__reduce__()[0]  # how numpy's arrays are unpickled; it moved between modules
_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class _ArraysOnly(pickle.Unpickler):
    """Makes numpy's arrays and Python's own values, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no published archive does")
        return _ALLOWED[module, name]


def load(data: bytes) -> dict[bytes, Any]:
    """Unpickle arrays, lists, numbers and bytes, as Python 2 wrote them; ValueError for anything else, or damage."""
    try:
        value = _ArraysOnly(io.BytesIO(data), encoding="bytes").load()
    except Exception as error:  # noqa: BLE001 - bytes that are no pickle raise whatever they like
        raise ValueError(f"{type(error).__name__}: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"a {type(value).__name__} where a dictionary should be")
    return value


def read(
    source: Path, archive: str, folder: str, batches: dict[str, str], meta: str, keys: tuple[bytes, bytes]
) -> Iterator[Item]:
    """All images of an archive, or of the folder that it unpacks to; UserError if a file is missing or damaged.

    Args:
        batches: files and the split that each belongs to.
        meta: the file with the names of the classes.
        keys: under which a batch has its labels, and ``meta`` the names of the classes.
    """
    try:
        data = extracted(source, archive, folder, [*batches, meta])
    except DAMAGES as error:
        raise UserError(
            f"--source {source} is not {archive} nor what it unpacks to ({folder}/{next(iter(batches))} …): {error}. "
            f"Give the file as it is published, or fetch it again."
        ) from None
    name = meta
    try:
        classes = [label.decode() for label in load(data[meta])[keys[1]]]
        for name, split in batches.items():
            yield from _images(split, load(data[name]), keys[0], classes)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"--source {source}: {name} is damaged: {error}. Fetch {archive} again.") from None


def _images(split: str, batch: dict[bytes, Any], labels: bytes, classes: list[str]) -> Iterator[Item]:
    pixels, numbers = np.asarray(batch[b"data"]), batch[labels]
    if pixels.dtype != np.uint8 or pixels.shape != (len(numbers), 3 * SIDE * SIDE):
        raise ValueError(f"{len(numbers)} labels, and pixels of shape {pixels.shape}, {pixels.dtype}")
    for row, number in zip(pixels, numbers, strict=True):
        if number not in range(len(classes)):
            raise ValueError(f"label {number} of {len(classes)} classes")
        yield Item(split, classes[number], Image.fromarray(row.reshape(3, SIDE, SIDE).transpose(1, 2, 0)))
