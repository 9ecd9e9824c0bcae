"""Which images are measured, and how they are dealt out to the ranks."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch

from hpcfast.config import Check, RunConfig
from hpcfast.data import Batch, DataSettings, dali
from hpcfast.data.readahead import BadImages
from hpcfast.data.split import Split
from hpcfast.distributed.comm import World
from hpcfast.errors import UserError


def chosen_images(split: Split, check: Check, world: World) -> np.ndarray:
    """Ids of the images of ``split`` that ``check`` measures.

    Raises:
        UserError: there are fewer of them than ranks.
    """
    ids = split.evenly(check.images)
    if len(ids) < world.size:
        raise UserError(f"{split.root}: {len(ids)} images to evaluate on {world.size} ranks; use fewer ranks")
    return ids


class Share(NamedTuple):
    """A rank's share of some images."""

    mine: np.ndarray
    """Their ids."""
    steps: int
    """Batches that the largest share makes: as many on every rank."""
    size: int
    """Of a batch, at most; about equal in all steps."""


def shard(ids: np.ndarray, batch_size: int, world: World) -> Share:
    """Divide ``ids`` over the ranks, in batches of at most ``batch_size``, which must be the same on all ranks."""
    largest = math.ceil(len(ids) / world.size)
    steps = math.ceil(largest / batch_size)
    mine = ids[len(ids) * world.rank // world.size : len(ids) * (world.rank + 1) // world.size]
    return Share(mine, steps, math.ceil(largest / max(steps, 1)))


def read(
    split: Split,
    share: Share,
    left: np.ndarray,
    config: RunConfig,
    world: World,
    faults: dict[int, str] | None = None,
) -> Iterator[Batch]:
    """Read the images ``left`` of a share, in ``share.steps`` batches, of which the last ones may be empty.

    Bad images are left out, and noted in ``faults``: what is wrong with them, by id.
    """
    alone = dali.Shard(0, 1, world.device, config.data.threads or world.threads)
    batches = good_batches(split, left, config.data, alone, share.size, {} if faults is None else faults)
    size = config.data.size
    none = torch.empty(0, dtype=torch.int64, device=world.device)
    empty = Batch(torch.empty(0, config.data.channels, size, size, device=world.device), none, none)
    for _ in range(share.steps):
        yield next(batches, empty)


def good_batches(
    split: Split, ids: np.ndarray, settings: DataSettings, alone: dali.Shard, batch_size: int, faults: dict[int, str]
) -> Iterator[Batch]:
    """The images ``ids`` as one rank reads them by itself, in order; bad ones are left out, and noted in ``faults``."""
    while len(ids):
        try:
            for batch in dali.batches(split, ids, settings, alone, batch_size, None):
                ids = ids[len(batch.ids) :]
                yield batch
        except BadImages as bad:
            faults.update(bad.faults)
            ids = ids[~np.isin(ids, [*bad.faults])]


def shared_out(
    split: Split,
    ids: np.ndarray,
    batch_size: int,
    config: RunConfig,
    world: World,
    faults: dict[int, str] | None = None,
) -> Iterator[Batch]:
    """This rank's share of ``ids``, in as many batches as every other rank's, of which the last may be empty.

    Bad images are left out, and noted in ``faults``.
    """
    share = shard(ids, batch_size, world)
    return read(split, share, share.mine, config, world, faults)
