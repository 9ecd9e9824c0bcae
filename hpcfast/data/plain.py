"""Batches without DALI: Pillow decodes in threads, torch does the rest. Slower, and for the same draws the same.

Pillow's pixels are those that :func:`hpcfast.data.images.opened` gives, on every installation.
"""

from collections.abc import Iterator
from contextlib import closing
from functools import partial

import numpy as np
import torch
from torch import Tensor

from hpcfast.data import Batch, DataSettings, augment, images, onbatch, resize
from hpcfast.data.readahead import BadImages, attempt, divided, read_ahead
from hpcfast.data.split import Split


def batches(
    split: Split, ids: np.ndarray, settings: DataSettings, device: torch.device, threads: int, batch_size: int,
    train_key: int | None,
) -> Iterator[Batch]:  # fmt: skip
    """See :func:`hpcfast.data.feed.batches`."""
    photographs = settings.augment == "resized_crop_flip"
    faults: dict[int, str] = {}
    parts = divided(ids, batch_size)

    def read(image: int) -> Tensor | str:
        make = partial(photograph, settings, train_key, image) if photographs else partial(small, settings)
        return attempt(split, image, make)

    decoded = read_ahead(read, parts, faults, threads)
    with closing(decoded):
        for part in parts:
            found = next(decoded, None)
            if found is None:
                raise BadImages(split, faults)
            x = onbatch.to_device(torch.stack(found), device)
            yield finished(x, split, part, settings, None if photographs else train_key)


def finished(x: Tensor, split: Split, ids: np.ndarray, settings: DataSettings, train_key: int | None) -> Batch:
    """The batch of the bytes ``x`` of ``ids``, augmented unless ``train_key`` is None."""
    if train_key is not None:
        numbers = augment.uniform(train_key, ids, settings.flip)
        if settings.augment == "pad_crop_flip":
            draws = augment.shifts(numbers, settings.size // 8)
            x = onbatch.shifted(x, *(onbatch.to_device(torch.from_numpy(each), x.device) for each in draws))
        if settings.colour_jitter:
            factors = augment.jitters(numbers, settings.colour_jitter)
            x = onbatch.jittered(x, *(onbatch.to_device(torch.from_numpy(each), x.device) for each in factors))
    y, chosen = (onbatch.to_device(torch.as_tensor(each), x.device) for each in (split.labels[ids], ids))
    return Batch(onbatch.floats(x), y, chosen)


def small(settings: DataSettings, encoded: np.ndarray) -> Tensor:
    """An image as ``size`` x ``size`` pixels, whatever its sides are; shape (channels, size, size), uint8."""
    image, side = pixels(encoded, settings.channels), settings.size
    return image.permute(2, 0, 1) if image.shape[:2] == (side, side) else resize.square(side, image, 0)


def photograph(settings: DataSettings, train_key: int | None, image: int, encoded: np.ndarray) -> Tensor:
    """A random part of image number ``image``, or its centre; shape (channels, size, size), uint8."""
    found = pixels(encoded, settings.channels)
    if train_key is None:
        return resize.centre(settings.size, found)
    numbers = augment.uniform(train_key, np.array([image]), settings.flip)
    mirror, *draws = augment.crops(numbers)
    top, left, height, width = augment.window(np.array(found.shape[:2]), *(each[0] for each in draws))
    part = found[top : top + height, left : left + width]
    if settings.colour_jitter:
        factors = map(torch.from_numpy, augment.jitters(numbers, settings.colour_jitter))
        part = onbatch.jittered(part.permute(2, 0, 1)[None], *factors)[0].permute(1, 2, 0)
    return resize.square(settings.size, part, int(mirror[0]))


def pixels(encoded: np.ndarray, channels: int) -> Tensor:
    """What a file shows, shape (height, width, channels), uint8; ImageError if it cannot be decoded."""
    parsed, mode = images.parsed(encoded.tobytes()), "L" if channels == 1 else "RGB"
    if channels == 1 and parsed.mode == "RGB":
        parsed.draft("L", parsed.size)  # a JPEG has its own brightness, which DALI takes, too
    image = images.turned(images.coloured(parsed), parsed).convert(mode)
    return torch.from_numpy(np.array(image)).view(image.height, image.width, channels)
