"""Which images are measured, and how they are dealt out to the ranks."""

import math
from collections.abc import Iterator

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


def shared_out(
    split: Split,
    ids: np.ndarray,
    batch_size: int,
    config: RunConfig,
    world: World,
    faults: dict[int, str] | None = None,
    left: np.ndarray | None = None,
) -> Iterator[Batch]:
    """This rank's share of ``ids``, in as many batches as every other rank's, of which the last may be empty.

    Bad images are left out, and noted in ``faults``: what is wrong with them, by id.

    Args:
        batch_size: at most; the same on all ranks.
        left: ids of the images that are still to be read; by default all. The number of batches stays the same.
    """
    largest = math.ceil(len(ids) / world.size)
    steps = math.ceil(largest / batch_size)
    mine = ids[len(ids) * world.rank // world.size : len(ids) * (world.rank + 1) // world.size]
    if left is not None:
        mine = mine[np.isin(mine, left)]
    alone = dali.Shard(0, 1, world.device, config.data.threads or world.threads)
    equal = math.ceil(largest / max(steps, 1))
    batches = good_batches(split, mine, config.data, alone, equal, {} if faults is None else faults)
    none = torch.empty(0, dtype=torch.int64, device=world.device)
    shape = config.data.channels, config.data.size, config.data.size
    empty = Batch(torch.empty(0, *shape, device=world.device), none, none)
    for _ in range(steps):
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
