"""The DALI pipelines: the only file that imports DALI.

One graph serves CPUs and GPUs: without a GPU images are decoded on the CPU, with one by nvJPEG ("mixed"). The
reader is given the list of files to read, in order; where a label is expected it gets the image's id, from
which the class follows. What augmentation draws is worked out outside, from the ids, and fed into the graph.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from nvidia.dali import fn, math, pipeline_def, types
from nvidia.dali.data_node import DataNode
from nvidia.dali.pipeline import Pipeline
from nvidia.dali.plugin.base_iterator import LastBatchPolicy
from nvidia.dali.plugin.pytorch import DALIGenericIterator

from hpcfast.comm import World
from hpcfast.data import Batch, DataSettings, augment
from hpcfast.data.folder import Split

EVAL_CROP = 0.875
"""Central part of an image that is evaluated when training crops at random: 224 of 256 pixels."""


@dataclass(frozen=True)
class Shard:
    """Which part of the images this rank reads, and on what device it puts them."""

    rank: int
    size: int
    device: torch.device
    threads: int

    @classmethod
    def of(cls, world: World, threads: int | None) -> "Shard":
        """The part of ``world``'s rank, with ``threads`` DALI threads or its share of the cores."""
        return cls(world.rank, world.size, world.device, threads or world.threads)


def batches(
    split: Split, ids: np.ndarray, settings: DataSettings, shard: Shard, batch_size: int, train_key: int | None
) -> Iterator[Batch]:
    """Read ``ids``, in this order, the shard's contiguous block of them, each image once.

    Args:
        settings: of which ``size``, ``channels`` and ``augment`` count here.
        train_key: of the augmentation, which is a function of (train_key, id) alone; None for evaluation, which
            sees the images without it.

    Yields:
        Batches of at most ``batch_size``; none for no ids, as an epoch resumed at its end has.
    """
    if not len(ids):
        return
    pipe = build(split, ids, settings, shard, batch_size, train_key)
    # Blocks may differ by one image: padding gives all ranks the same steps, PARTIAL hands out no image twice.
    iterator = DALIGenericIterator(
        pipe, ["x", "ids"], reader_name="reader", last_batch_policy=LastBatchPolicy.PARTIAL, auto_reset=False
    )
    labels = torch.as_tensor(split.labels, device=shard.device)
    for (out,) in iterator:
        chosen = out["ids"].view(-1).to(shard.device, torch.int64)
        if len(chosen):
            yield Batch(out["x"], labels[chosen], chosen)


def build(
    split: Split, ids: np.ndarray, settings: DataSettings, shard: Shard, batch_size: int, train_key: int | None
) -> Pipeline:
    """Return the pipeline, not yet built; ``serialize()`` shows its graph, a GPU's too where there is none."""
    block = ids[len(ids) * shard.rank // shard.size : len(ids) * (shard.rank + 1) // shard.size]
    return _graph(
        files=[split.files[i] for i in ids],
        ids=ids.tolist(),
        settings=settings,
        shard=shard,
        decoder="mixed" if shard.device.type == "cuda" else "cpu",
        numbers=None if train_key is None else augment.by_batch(train_key, block, batch_size),
        batch_size=batch_size,
        num_threads=shard.threads,
        device_id=shard.device.index if torch.cuda.is_available() else None,
    )


@pipeline_def
def _graph(
    files: list[str],
    ids: list[int],
    settings: DataSettings,
    shard: Shard,
    decoder: str,
    numbers: augment.Numbers | None,
) -> tuple[DataNode, DataNode]:
    encoded, image_ids = fn.readers.file(
        name="reader", files=files, labels=ids, shard_id=shard.rank, num_shards=shard.size, pad_last_batch=True
    )
    if numbers is None or settings.augment == "none":
        images, mirror = _decode(encoded, settings, decoder), 0
    elif settings.augment == "pad_crop_flip":
        images, mirror = _shifted(encoded, numbers, settings, decoder)
    else:
        images, mirror = _cropped(encoded, numbers, settings, decoder)
    x = fn.crop_mirror_normalize(
        images,
        crop=(settings.size, settings.size),
        mirror=mirror,
        mean=0.0,
        std=255.0,
        dtype=types.FLOAT,
        output_layout="CHW",
    )
    return x, image_ids


def _decode(encoded: DataNode, settings: DataSettings, decoder: str) -> DataNode:
    """Decode to uint8 HWC of at least the wanted size."""
    images = fn.decoders.image(encoded, device=decoder, output_type=_colour(settings))
    if settings.augment == "resized_crop_flip":
        return fn.resize(images, resize_shorter=round(settings.size / EVAL_CROP))
    return fn.resize(images, resize_x=settings.size, resize_y=settings.size)


def _shifted(
    encoded: DataNode, numbers: augment.Numbers, settings: DataSettings, decoder: str
) -> tuple[DataNode, DataNode]:
    """Move each image by up to an eighth of its size, filling with black: a random crop of a padded image."""
    size = settings.size
    mirror, start = fn.external_source(lambda i: augment.shifts(numbers(i), size // 8), num_outputs=2)
    images = _decode(encoded, settings, decoder)
    shape, fill = [size, size], [0]
    return fn.slice(images, start=start, shape=shape, axes=(0, 1), out_of_bounds_policy="pad", fill_values=fill), mirror


def _cropped(
    encoded: DataNode, numbers: augment.Numbers, settings: DataSettings, decoder: str
) -> tuple[DataNode, DataNode]:
    """Decode a random part of each image, and only that part."""
    mirror, *draws = fn.external_source(lambda i: augment.crops(numbers(i)), num_outputs=4)
    start, shape = window(fn.peek_image_shape(encoded)[:2], *draws)
    images = fn.decoders.image_slice(
        encoded, start=start, shape=shape, axis_names="HW", device=decoder, output_type=_colour(settings)
    )
    return fn.resize(images, resize_x=settings.size, resize_y=settings.size), mirror


def window(extent: DataNode, form: DataNode, area: DataNode, place: DataNode) -> tuple[DataNode, DataNode]:
    """Start and shape of a random window, in whole pixels, inside an image of ``extent``: all are (height, width).

    Its area is uniform from ``CROP_AREA`` of the image to the largest that fits at this aspect ratio. Others draw
    again if a window doesn't fit: nearly the same distribution, but there is no telling how many numbers it takes.

    Args:
        extent: of the image, pixels.
        form: sides of a window of area 1.
        area: in [0, 1).
        place: in [0, 1).
    """
    # Each operation costs a microsecond an image, hence few: sides are measured in those of the window of area 1.
    sides = extent / form
    largest = fn.reductions.min(sides)
    smallest = math.min(fn.reductions.max(sides) * augment.CROP_AREA, largest)
    chosen = math.sqrt((smallest + area * (largest - smallest)) * largest)
    shape = math.max(fn.cast(form * chosen, dtype=types.INT32), 1)
    return fn.cast(place * (extent - shape), dtype=types.INT32), shape


def _colour(settings: DataSettings) -> types.DALIImageType:
    return types.GRAY if settings.channels == 1 else types.RGB
