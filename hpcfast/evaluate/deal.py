"""Which images are measured, and how they are dealt out to the ranks."""

import math
from collections.abc import Iterator

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


def shared_out(
    split: Split, ids: np.ndarray, config: RunConfig, world: World, done: np.ndarray | None = None
) -> Iterator[Batch]:
    """This rank's share of ``ids``, in as many batches as every other rank's, of about equal sizes.

    Args:
        done: whether each image of the split is done already (bool); such images are left out. Batches are cut
            before, so that what is left after a kill comes in the batches it would have come in.

    Yields:
        Batches of at most ``config.evaluation.batch_size``, of which the last ones may be empty.
    """
    largest = math.ceil(len(ids) / world.size)
    steps = math.ceil(largest / config.evaluation.batch_size)
    mine = ids[len(ids) * world.rank // world.size : len(ids) * (world.rank + 1) // world.size]
    if done is not None:
        mine = mine[~done[mine]]
    alone = dali.Shard(0, 1, world.device, config.data.threads or world.threads)
    batches = dali.batches(split, mine, config.data, alone, math.ceil(largest / max(steps, 1)), None)
    size = config.data.size
    none = torch.empty(0, dtype=torch.int64, device=world.device)
    empty = Batch(torch.empty(0, config.data.channels, size, size, device=world.device), none, none)
    for _ in range(steps):
        yield next(batches, empty)
