"""The batches of an evaluation: which images, dealt out to the ranks, as many together as memory has room for.

What a network keeps for the gradient at an image is counted, once, at two images. Where memory runs out nevertheless,
a batch is done in halves. An image's outcome depends on neither.
"""

import math
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice, repeat
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from hpcfast.config import Check, RunConfig
from hpcfast.data import Batch, DataSettings, feed
from hpcfast.data.readahead import AHEAD, BadImages
from hpcfast.data.split import Split
from hpcfast.distributed import comm, machine
from hpcfast.distributed.comm import World
from hpcfast.errors import UserError

MOST = 3 * 2**29
"""Bytes that a batch may take on a CPU, where larger ones are no faster: 1.5 GiB."""
SHARE = 0.8
"""Of the free memory that the ranks of a machine, or of a GPU, may take together."""
SLACK = 1.5
"""Times what is kept for the gradient: with what it is worked out in. 1.0 was measured, of networks on a CPU."""
COPIES = 16
"""Of an image, float32, that an attack holds: APGD's points, gradients and best ones."""
PHOTO = 500 * 375
"""Pixels of a photograph before it is resized: ImageNet's usual size."""

T = TypeVar("T")


def chosen_images(split: Split, check: Check, world: World) -> np.ndarray:
    """Ids of the images of ``split`` that ``check`` measures; UserError if there are fewer of them than ranks."""
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

    Bad images are left out, and noted in ``faults``: what is wrong with them, by id. Only those in ``left`` (ids; by
    default all) are read; the number of batches stays the same. ``batch_size``, at most, must be equal on all ranks.
    """
    largest = math.ceil(len(ids) / world.size)
    steps = math.ceil(largest / batch_size)
    mine = ids[len(ids) * world.rank // world.size : len(ids) * (world.rank + 1) // world.size]
    if left is not None:
        mine = mine[np.isin(mine, left)]
    alone = feed.Shard(0, 1, world.device, config.data.threads or world.threads)
    equal = math.ceil(largest / max(steps, 1))
    batches = good_batches(split, mine, config.data, alone, equal, {} if faults is None else faults)
    empty = Batch(*[torch.empty(0, dtype=torch.int64)] * 3)
    yield from islice(chain(batches, repeat(empty)), steps)


def good_batches(
    split: Split, ids: np.ndarray, settings: DataSettings, alone: feed.Shard, batch_size: int, faults: dict[int, str]
) -> Iterator[Batch]:
    """The images ``ids`` as one rank reads them by itself, in order; bad ones are left out, and noted in ``faults``."""
    while len(ids):
        try:
            for batch in feed.batches(split, ids, settings, alone, batch_size, None):
                ids = ids[len(batch.ids) :]
                yield batch
        except BadImages as bad:
            faults.update(bad.faults)
            ids = ids[~np.isin(ids, [*bad.faults])]


def batch_size(models: Sequence[nn.Module], config: RunConfig, world: World) -> int:
    """Images that a batch may have at whose images ``models``, one after the other, are given gradients.

    A collective, whose result is the same on all ranks: at least 1, at most ``config.evaluation.batch_size``.
    """
    data = config.data
    image = data.channels * data.size**2
    x = torch.zeros(2, data.channels, data.size, data.size, device=world.device)
    queued = max(image, data.channels * PHOTO if data.augment == "resized_crop_flip" else 0)
    each = 4 * COPIES * image + (AHEAD + data.prefetch + 2) * queued  # DALI holds batches of bytes
    each += round(SLACK * max(kept(model, x) for model in models))
    place = (socket.gethostname(), str(world.device))
    everyone = comm.gather((place, machine.free(world.device), each))
    sharers = Counter(where for where, *_ in everyone)
    room = min(SHARE * there / sharers[where] / need for where, there, need in everyone)
    if world.device.type == "cpu":
        room = min(room, MOST / max(need for *_, need in everyone))
    return max(1, min(config.evaluation.batch_size, int(room)))


def kept(model: nn.Module, x: Tensor) -> int:
    """Bytes that ``model`` keeps for the gradient at one image of ``x``, which has two."""

    def saved(images: Tensor) -> int:
        storages: dict[int, int] = {}

        def note(tensor: Tensor) -> Tensor:
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            model(images.clone().requires_grad_())
        return sum(storages.values())

    return max(0, saved(x) - saved(x[:1]))  # weights are kept too, but not for each image


class Pieces:
    """Does work on batches of at most ``most`` images, in pieces of ``size``, which is halved where memory runs out."""

    def __init__(self, most: int) -> None:
        self.most = self.size = most

    def each(self, work: Callable[[Batch], T], batch: Batch) -> list[T]:
        """What ``work`` returns for each piece of ``batch``, begun anew with smaller ones where there was no room."""
        results: list[T] = []
        done = 0
        while done < len(batch.ids):
            piece = Batch(*(part[done : done + self.size] for part in batch))
            try:
                results.append(work(piece))
                done += len(piece.ids)
                continue
            except (RuntimeError, MemoryError) as error:
                # On CPUs torch has no error of its own for it.
                full = isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)
                if len(piece.ids) == 1 or not full:
                    raise
            # Not where the error is caught: it holds on to all tensors that were in the way.
            self.size = math.ceil(len(piece.ids) / 2)
            if piece.x.is_cuda:
                torch.cuda.empty_cache()
        return results
