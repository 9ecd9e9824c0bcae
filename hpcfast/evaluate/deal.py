"""Which images are measured, and how they are dealt out to the ranks."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch

from hpcfast.comm import World
from hpcfast.config import Check, RunConfig
from hpcfast.data import Batch, dali
from hpcfast.data.folder import Split, spread
from hpcfast.errors import UserError


def chosen_images(split: Split, check: Check, world: World) -> np.ndarray:
    """Ids of the images of ``split`` that ``check`` measures.

    Raises:
        UserError: there are fewer of them than ranks.
    """
    ids = spread(len(split), check.images)
    if len(ids) < world.size:
        raise UserError(f"{split.root}: {len(ids)} images to evaluate on {world.size} ranks; use fewer ranks")
    return ids


class Deal(NamedTuple):
    """A rank's share of some images."""

    mine: np.ndarray
    """Their ids."""
    steps: int
    """Batches that the largest share makes: as many on every rank."""
    size: int
    """Of a batch, at most; about equal in all steps."""


def deal(ids: np.ndarray, config: RunConfig, world: World) -> Deal:
    """Deal out ``ids``, in batches of at most ``config.evaluation.batch_size``."""
    largest = math.ceil(len(ids) / world.size)
    steps = math.ceil(largest / config.evaluation.batch_size)
    mine = ids[len(ids) * world.rank // world.size : len(ids) * (world.rank + 1) // world.size]
    return Deal(mine, steps, math.ceil(largest / max(steps, 1)))


def read(split: Split, share: Deal, left: np.ndarray, config: RunConfig, world: World) -> Iterator[Batch]:
    """Read the images ``left`` of a share, in ``share.steps`` batches, of which the last ones may be empty."""
    alone = dali.Shard(0, 1, world.device, config.data.threads or world.threads)
    batches = dali.batches(split, left, config.data, alone, share.size, None)
    size = config.data.size
    none = torch.empty(0, dtype=torch.int64, device=world.device)
    empty = Batch(torch.empty(0, config.data.channels, size, size, device=world.device), none, none)
    for _ in range(share.steps):
        yield next(batches, empty)


def shared_out(split: Split, ids: np.ndarray, config: RunConfig, world: World) -> Iterator[Batch]:
    """This rank's share of ``ids``, in as many batches as every other rank's, of which the last may be empty."""
    share = deal(ids, config, world)
    return read(split, share, share.mine, config, world)
