"""Small data in memory: each image is decoded once, and its bytes stay on the rank's device."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial

import numpy as np
import torch
from torch import Tensor

from hpcfast.data import Batch, DataSettings, onbatch, plain
from hpcfast.data.readahead import BadImages, attempt, divided, read_ahead
from hpcfast.data.split import Split
from hpcfast.distributed import machine
from hpcfast.errors import UserError

BUDGET = 2**30
"""Bytes of a split that is kept where nobody says whether it is to be."""


class Pixels:
    """The images of a split that were asked for so far; uint8."""

    def __init__(self, images: int, settings: DataSettings, device: torch.device) -> None:
        shape = images, settings.channels, settings.size, settings.size
        self._bytes = torch.zeros(shape, dtype=torch.uint8, device=device)
        self._there = np.zeros(images, bool)

    def missing(self, ids: np.ndarray) -> np.ndarray:
        """Those of ``ids`` that are not here yet."""
        return ids[~self._there[ids]]

    def put(self, ids: np.ndarray, images: list[Tensor]) -> None:
        """Keep the bytes of ``ids``, each of shape (channels, size, size)."""
        if len(ids):
            device = self._bytes.device
            where = onbatch.to_device(torch.as_tensor(ids), device)
            self._bytes[where] = onbatch.to_device(torch.stack(images), device)
            self._there[ids] = True

    def take(self, ids: np.ndarray) -> Tensor:
        """The bytes of ``ids``, shape (n, channels, size, size)."""
        return self._bytes[onbatch.to_device(torch.as_tensor(ids), self._bytes.device)]


def needed(split: Split, settings: DataSettings) -> int:
    """Bytes of the images of ``split``, decoded."""
    return len(split) * settings.channels * settings.size**2


def fits(split: Split, settings: DataSettings) -> bool:
    """Whether ``split`` is kept in memory."""
    if settings.resident == "auto":
        return settings.can_be_resident and needed(split, settings) <= BUDGET
    return settings.resident


def check(splits: Sequence[Split], settings: DataSettings, device: torch.device, ranks: int) -> None:
    """Refuse what ``device`` has no room for, where each of so many ``ranks`` keeps ``splits`` there.

    Raises:
        UserError: it has not, and what would have.
    """
    need = ranks * sum(needed(split, settings) for split in splits if fits(split, settings))
    there = machine.free(device)
    if need > there:
        raise UserError(
            f"data.resident: {settings.resident} keeps {need:,} bytes of images on {device} ({ranks} ranks share it), "
            f"which has {there:,} left; set data.resident=false"
        )


def batches(
    split: Split, ids: np.ndarray, settings: DataSettings, device: torch.device, threads: int, batch_size: int,
    train_key: int | None,
) -> Iterator[Batch]:  # fmt: skip
    """See :func:`hpcfast.data.feed.batches`."""
    kept = _kept(split, settings, device)
    parts = divided(ids, batch_size)
    missing = [kept.missing(part) for part in parts]
    make, faults = partial(plain.small, settings), dict[int, str]()
    decoded = read_ahead(lambda i: attempt(split, i, make), missing, faults, threads)
    with closing(decoded):
        for part, new in zip(parts, missing, strict=True):
            found = next(decoded, None)
            if found is None:
                raise BadImages(split, faults)
            kept.put(new, found)
            yield plain.finished(kept.take(part), split, part, settings, train_key)


def _kept(split: Split, settings: DataSettings, device: torch.device) -> Pixels:
    key = settings.channels, settings.size, device
    if key not in split.memory:
        split.memory.clear()  # a phase of images of another size is over
        split.memory[key] = Pixels(len(split), settings, device)
    return split.memory[key]
