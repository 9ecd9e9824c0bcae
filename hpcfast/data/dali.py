"""The DALI pipelines: the only file that imports DALI.

One graph serves CPUs and GPUs: without a GPU images are decoded on the CPU, with one by nvJPEG ("mixed"). The
reader is given the list of files to read, in order; where a label is expected it gets the image's id, from
which the class follows.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from nvidia.dali import fn, pipeline_def, types
from nvidia.dali.pipeline import Pipeline
from nvidia.dali.plugin.base_iterator import LastBatchPolicy
from nvidia.dali.plugin.pytorch import DALIGenericIterator

from hpcfast.comm import World
from hpcfast.data import Batch, DataSettings
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
    split: Split, ids: np.ndarray, settings: DataSettings, shard: Shard, batch_size: int, train_seed: int | None
) -> Iterator[Batch]:
    """Read ``ids``, in this order, the shard's contiguous block of them, each image once.

    Args:
        settings: of which ``size``, ``channels`` and ``augment`` count here.
        train_seed: of the augmentation; None for evaluation, which sees the images without it.
    """
    pipe = build(split, ids, settings, shard, batch_size, train_seed)
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
    split: Split, ids: np.ndarray, settings: DataSettings, shard: Shard, batch_size: int, train_seed: int | None
) -> Pipeline:
    """Return the pipeline, not yet built; ``serialize()`` shows its graph, a GPU's too where there is none."""
    return _graph(
        files=[split.files[i] for i in ids],
        ids=ids.tolist(),
        settings=settings,
        shard=shard,
        decoder="mixed" if shard.device.type == "cuda" else "cpu",
        random=train_seed is not None,
        batch_size=batch_size,
        num_threads=shard.threads,
        device_id=shard.device.index if torch.cuda.is_available() else None,
        seed=train_seed or 0,
    )


@pipeline_def
def _graph(
    files: list[str], ids: list[int], settings: DataSettings, shard: Shard, decoder: str, random: bool
) -> tuple[object, object]:
    encoded, image_ids = fn.readers.file(
        name="reader", files=files, labels=ids, shard_id=shard.rank, num_shards=shard.size, pad_last_batch=True
    )
    images = _decode(encoded, settings, decoder, random)
    if random and settings.augment == "pad_crop_flip":
        images = _shift(images, settings.size)
    x = fn.crop_mirror_normalize(
        images,
        crop=(settings.size, settings.size),
        mirror=fn.random.coin_flip() if random and settings.augment != "none" else 0,
        mean=0.0,
        std=255.0,
        dtype=types.FLOAT,
        output_layout="CHW",
    )
    return x, image_ids


def _shift(images: object, size: int) -> object:
    """Move each image by up to an eighth of its size, filling with black: a random crop of a padded image."""
    reach = size // 8
    start = fn.cast(fn.random.uniform(values=list(range(-reach, reach + 1)), shape=[2]), dtype=types.INT32)
    return fn.slice(images, start=start, shape=[size, size], axes=(0, 1), out_of_bounds_policy="pad", fill_values=[0])


def _decode(encoded: object, settings: DataSettings, decoder: str, random: bool) -> object:
    """Decode to uint8 HWC of at least the wanted size."""
    colour = types.GRAY if settings.channels == 1 else types.RGB
    size = settings.size
    if settings.augment != "resized_crop_flip":
        images = fn.decoders.image(encoded, device=decoder, output_type=colour)
        return fn.resize(images, resize_x=size, resize_y=size)
    if random:  # decodes only the part it keeps
        images = fn.decoders.image_random_crop(encoded, device=decoder, output_type=colour)
        return fn.resize(images, resize_x=size, resize_y=size)
    images = fn.decoders.image(encoded, device=decoder, output_type=colour)
    return fn.resize(images, resize_shorter=round(size / EVAL_CROP))
