"""The DALI pipelines: the only file that imports DALI.

One graph serves CPUs and GPUs: without a GPU images are decoded on the CPU, with one by nvJPEG ("mixed"). On a CPU
the graph of photographs ends there, and :mod:`hpcfast.data.resize` goes on. DALI opens no files: it is fed with their
bytes, whether they come from a folder or from a pack, and with what augmentation draws, which is worked out outside,
from the ids.
"""

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import numpy as np
import torch
from nvidia.dali import fn, math, pipeline_def, types
from nvidia.dali.data_node import DataNode
from nvidia.dali.pipeline import Pipeline
from torch.utils.dlpack import from_dlpack

from hpcfast.data import Batch, DataSettings, augment, onbatch, resize
from hpcfast.data.images import ready
from hpcfast.data.readahead import BadImages, attempt, divided, read_ahead
from hpcfast.data.split import Split

MEMORY = {"device_memory_padding": 211_025_920, "host_memory_padding": 140_544_512}
"""Bytes that nvJPEG holds from the start, a thread: enough for ImageNet's largest images, says NVIDIA's own example.
Without, it asks for more whenever a larger image comes, and the GPU waits."""


def batches(
    split: Split, ids: np.ndarray, settings: DataSettings, device: torch.device, threads: int, batch_size: int,
    train_key: int | None,
) -> Iterator[Batch]:  # fmt: skip
    """See :func:`hpcfast.data.feed.batches`."""
    faults: dict[int, str] = {}
    encoded = read_encoded(split, ids, batch_size, faults)
    with closing(encoded), ThreadPoolExecutor(threads) as pool:
        pipe = build(encoded, ids, settings, device, threads, batch_size, train_key)
        for batch in divided(ids, batch_size):
            try:
                images = pipe.run()
            except StopIteration:  # it has run out before its time
                raise BadImages(split, faults) from None
            except RuntimeError as error:
                undecodable = _undecodable(split, batch, settings, device, train_key)
                if not undecodable:
                    raise
                raise BadImages(split, undecodable) from error
            if not _leaves_resizing(settings, device):
                x = onbatch.floats(from_dlpack(images[0].as_tensor()).to(device).permute(0, 3, 1, 2))
            else:
                decoded = [torch.from_numpy(np.asarray(part)) for part in images[0]]
                if train_key is None:
                    x = resize.batch(pool, threads, resize.centre, settings.size, decoded)
                else:
                    x = resize.batch(pool, threads, resize.square, settings.size, decoded, images[1].as_array())
            y, chosen = (onbatch.to_device(torch.as_tensor(each), device) for each in (split.labels[batch], batch))
            yield Batch(x, y, chosen)


def read_encoded(
    split: Split, ids: np.ndarray, batch_size: int, faults: dict[int, str]
) -> Generator[list[np.ndarray], None, None]:
    """See :func:`read_ahead`; images are checked as they are read, so that DALI meets no header it cannot parse."""
    return read_ahead(lambda i: attempt(split, i, ready), divided(ids, batch_size), faults)


def _leaves_resizing(settings: DataSettings, device: torch.device) -> bool:
    """Whether torch resizes what DALI has decoded; where a GPU waits for it, DALI's threads do, ahead of time."""
    return device.type == "cpu" and settings.augment == "resized_crop_flip"


def _undecodable(
    split: Split, ids: np.ndarray, settings: DataSettings, device: torch.device, train_key: int | None
) -> dict[int, str]:
    """What is wrong with which of ``ids``, decoded one by one: DALI doesn't say whose fault an error is."""
    faults = {}
    for image in ids.tolist():
        encoded = attempt(split, image, ready)
        if isinstance(encoded, str):
            faults[image] = encoded
            continue
        try:
            build(iter([[encoded]]), np.array([image]), settings, device, 1, 1, train_key).run()
        except RuntimeError:
            faults[image] = "cannot be decoded"
    return faults


def build(
    encoded: Iterator[list[np.ndarray]],
    ids: np.ndarray,
    settings: DataSettings,
    device: torch.device,
    threads: int,
    batch_size: int,
    train_key: int | None,
    decode_only: bool = False,
) -> Pipeline:
    """Return the pipeline for ``ids``, whose bytes are ``encoded``, batch by batch; not yet built.

    ``serialize()`` shows its graph, a GPU's too where there is none. ``decode_only``: it ends there even where DALI
    would resize (photographs, for ``make bench``).
    """
    gpu = device.type == "cuda" and settings.decode == "auto"
    return _graph(
        source=encoded,
        settings=settings,
        decoder="mixed" if gpu else "cpu",
        numbers=None if train_key is None else augment.by_batch(train_key, ids, batch_size, settings.flip),
        batch_size=batch_size,
        num_threads=threads,
        device_id=device.index if gpu and torch.cuda.is_available() else None,
        prefetch_queue_depth=settings.prefetch,
        decode_only=decode_only or _leaves_resizing(settings, device),
    )


@pipeline_def
def _graph(
    source: Iterator[list[np.ndarray]],
    settings: DataSettings,
    decoder: str,
    numbers: augment.Numbers | None,
    decode_only: bool,
) -> DataNode | tuple[DataNode, DataNode]:
    """Training sees random parts, for which ``numbers`` are drawn; evaluation sees centres."""
    encoded = fn.external_source(source, dtype=types.UINT8, ndim=1)
    size, photographs, mirror = settings.size, settings.augment == "resized_crop_flip", None
    decoding: dict[str, Any] = {"output_type": types.GRAY if settings.channels == 1 else types.RGB}
    if decoder == "mixed" and photographs:
        decoding |= MEMORY
    if photographs and numbers is not None:
        images, mirror = _cut(encoded, numbers, device=decoder, **decoding)
    else:
        images = fn.decoders.image(encoded, device=decoder, **decoding)
    if not decode_only:
        central = photographs and numbers is None
        sides = {"resize_shorter": round(size / resize.EVAL_CROP)} if central else {"resize_x": size, "resize_y": size}
        images = fn.resize(images, **sides)
    if numbers is None:
        return images if decode_only else fn.crop(images, crop=(size, size))
    if settings.augment == "pad_crop_flip":
        images, mirror = _shifted(images, numbers, size)
    if settings.colour_jitter:
        images = _jittered(images, numbers, settings.colour_jitter)
    if decode_only:
        return images, mirror
    return images if mirror is None else fn.flip(images, horizontal=mirror)


def _shifted(images: DataNode, numbers: augment.Numbers, size: int) -> tuple[DataNode, DataNode]:
    """Move each image by up to an eighth of its size, filling with black: a random crop of a padded image."""
    mirror, start = fn.external_source(lambda i: augment.shifts(numbers(i), size // 8), num_outputs=2)
    shape, fill = [size, size], [0]
    return fn.slice(images, start=start, shape=shape, axes=(0, 1), out_of_bounds_policy="pad", fill_values=fill), mirror


def _cut(encoded: DataNode, numbers: augment.Numbers, **decoding: Any) -> tuple[DataNode, DataNode]:
    """Decode a random part of each image, and only that part; and whether to mirror it."""
    mirror, *draws = fn.external_source(lambda i: augment.crops(numbers(i)), num_outputs=4)
    start, shape = window(fn.peek_image_shape(encoded)[:2], *draws)
    return fn.decoders.image_slice(encoded, start=start, shape=shape, axis_names="HW", **decoding), mirror


def window(extent: DataNode, form: DataNode, area: DataNode, place: DataNode) -> tuple[DataNode, DataNode]:
    """Start and shape of a random window, in whole pixels, inside an image of ``extent``: all are (height, width).

    Its area is uniform from ``CROP_AREA`` of the image to the largest that fits at this aspect ratio. Others draw
    again if a window doesn't fit: nearly the same distribution, but there is no telling how many numbers it takes.
    ``form``, ``area`` and ``place`` are those of :func:`hpcfast.data.augment.crops`.
    """
    # Each operation costs a microsecond an image, hence few: sides are measured in those of the window of area 1.
    sides = extent / form
    largest = fn.reductions.min(sides)
    smallest = math.min(fn.reductions.max(sides) * augment.CROP_AREA, largest)
    chosen = math.sqrt((smallest + area * (largest - smallest)) * largest)
    shape = math.max(fn.cast(form * chosen, dtype=types.INT32), 1)
    return fn.cast(place * (extent - shape), dtype=types.INT32), shape


def _jittered(images: DataNode, numbers: augment.Numbers, strength: float) -> DataNode:
    draws = fn.external_source(lambda i: augment.jitters(numbers(i), strength), num_outputs=3)
    brightness, contrast, saturation = draws
    return fn.color_twist(images, brightness=brightness, contrast=contrast, saturation=saturation)
