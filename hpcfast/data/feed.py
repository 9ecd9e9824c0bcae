"""Batches of a split, in one call: from the device's memory, by DALI, or by Pillow where there is no DALI.

Which of them reads is a function of the data, the settings and the installation, so that all ranks do the same.
"""

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import metadata

import numpy as np
import torch

from hpcfast.data import Batch, DataSettings, resident
from hpcfast.data.made import MadeSplit
from hpcfast.data.split import Split
from hpcfast.distributed.comm import World


@dataclass(frozen=True)
class Shard:
    """Which part of the images this rank reads, and on what device it puts them."""

    rank: int
    size: int
    device: torch.device
    threads: int

    @classmethod
    def of(cls, world: World, threads: int | None) -> "Shard":
        """The part of ``world``'s rank, with ``threads`` threads or its share of the cores."""
        return cls(world.rank, world.size, world.device, threads or world.threads)


def batches(
    split: Split, ids: np.ndarray, settings: DataSettings, shard: Shard, batch_size: int, train_key: int | None
) -> Iterator[Batch]:
    """Read ``ids``, in this order, the shard's contiguous block of them, each image once.

    Augmentation is a function of (train_key, id) alone; None for evaluation, which sees the images without it.

    Yields:
        Batches of at most ``batch_size``; none for no ids, as an epoch resumed at its end has.

    Raises:
        BadImages: of the next batch, some cannot be read or decoded; all batches before it have been given out.
    """
    block = ids[len(ids) * shard.rank // shard.size : len(ids) * (shard.rank + 1) // shard.size]
    if isinstance(split, MadeSplit):
        yield from split.batches(block, settings, shard.device, batch_size)
    elif len(block):
        read = importlib.import_module(f"hpcfast.data.{name(split, settings)}").batches
        yield from read(split, block, settings, shard.device, shard.threads, batch_size, train_key)


def name(split: Split, settings: DataSettings) -> str:
    """What reads ``split``: the module "resident", "dali" or "plain" of this package, or the kind of a made one."""
    if isinstance(split, MadeSplit):
        return split.kind
    if resident.fits(split, settings):
        return "resident"
    return "dali" if dali_package() else "plain"


def remarks(split: Split, settings: DataSettings) -> list[str]:
    """What a person should know of how ``split`` is read."""
    if name(split, settings) != "plain":
        return []
    return ["DALI is not installed: Pillow decodes the images, at a lower rate (docs/installing.md)"]


def versions() -> dict[str, str]:
    """Of what pixels depend on; without DALI where it is not installed."""
    found = {"pillow": "pillow", "dali": dali_package()}
    return {name: metadata.version(package) for name, package in found.items() if package}


@cache
def dali_package() -> str | None:
    """The distribution of DALI that is installed, one of several for CUDA's versions; None where there is none."""
    names = (str(found.metadata["Name"]) for found in metadata.distributions())
    return next((name for name in names if name.startswith("nvidia-dali")), None)
