"""Robust accuracy: exact over any number of ranks.

Every image is read once, by one rank, and attacked with random numbers of its own, so that neither the number
of ranks nor the batch size changes the result. Accuracies are fractions.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hpcfast import comm
from hpcfast.attacks import noise
from hpcfast.comm import World
from hpcfast.config import Check, RunConfig
from hpcfast.data import Batch, dali
from hpcfast.data.folder import Split, spread
from hpcfast.errors import UserError


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put ``model`` in eval mode for this block and give it its own mode back."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def evaluate(
    model: nn.Module,
    split: Split,
    config: RunConfig,
    check: Check,
    world: World,
    progress: Callable[[int], None] = lambda done: None,
) -> dict[str, Any]:
    """Measure clean and robust accuracy of ``model`` on ``split``; a collective of all ranks.

    An image counts as robust if it is classified rightly both as it is and under ``check.attack``.

    Args:
        config: of which the data settings, the threat model and the seed count here.
        progress: called after each batch, equally often on all ranks, with the number of images done by all ranks
            as far as this one can tell.

    Returns:
        ``clean_accuracy``, ``robust_accuracy``, ``n_eval``, ``ci95`` (a Wilson interval for each accuracy),
        ``attack`` (its settings and the threat model) and ``seconds``.

    Raises:
        UserError: there are fewer images than ranks.
    """
    ids = chosen_images(split, check, world)
    started = time.perf_counter()
    counts = torch.zeros(3, dtype=torch.int64)
    with evaluating(model):
        for x, y, image_ids in shared_out(split, ids, config, world):
            held = (classify(model, x) == y).nonzero().squeeze(1)
            robust = 0
            if len(held):  # an image misclassified as it is needs no attack
                x, y = x[held], y[held]
                source = noise.per_image(config.seed, image_ids[held])
                adversarial = check.attack.perturb(model, x, y, config.threat.ball, source)
                robust = int((classify(model, adversarial) == y).sum())
            counts += torch.tensor([len(image_ids), len(held), robust])
            progress(min(int(counts[0]) * world.size, len(ids)))  # the others are about as far
    n, clean, robust = comm.total(counts).tolist()
    return {
        "clean_accuracy": clean / n,
        "robust_accuracy": robust / n,
        "n_eval": n,
        "ci95": {"clean_accuracy": interval(clean, n), "robust_accuracy": interval(robust, n)},
        "attack": {**check.attack.model_dump(), **config.threat.model_dump()},
        "seconds": time.perf_counter() - started,
    }


def shared_out(split: Split, ids: np.ndarray, config: RunConfig, world: World) -> Iterator[Batch]:
    """This rank's share of ``ids``, in as many batches as every other rank's, of which the last may be empty."""
    batch_size = config.evaluation.batch_size
    shard = dali.Shard.of(world, config.data.threads)
    batches = dali.batches(split, ids, config.data, shard, batch_size, None)
    size = config.data.size
    none = torch.empty(0, dtype=torch.int64, device=world.device)
    empty = Batch(torch.empty(0, config.data.channels, size, size, device=world.device), none, none)
    for _ in range(math.ceil(math.ceil(len(ids) / world.size) / batch_size)):
        yield next(batches, empty)


def chosen_images(split: Split, check: Check, world: World) -> np.ndarray:
    """Ids of the images of ``split`` that ``check`` measures.

    Raises:
        UserError: there are fewer of them than ranks.
    """
    ids = spread(len(split), check.images)
    if len(ids) < world.size:
        raise UserError(f"{split.root}: {len(ids)} images to evaluate on {world.size} ranks; use fewer ranks")
    return ids


def interval(successes: int, n: int) -> list[float]:
    """Wilson's 95 % confidence interval of a fraction: sound at 0 and 1 too, unlike the normal one.

    Three lines instead of scipy.stats, whose import costs every rank a second.
    """
    z = 1.959964
    centre = (successes + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * math.sqrt(successes * (n - successes) / n + z * z / 4)
    fraction = successes / n  # inside its own interval, whatever rounding does
    return [max(0.0, min(centre - half, fraction)), min(1.0, max(centre + half, fraction))]


@torch.no_grad()
def classify(model: nn.Module, x: Tensor) -> Tensor:
    """The class of the largest logit, shape (n,)."""
    return model(x).argmax(1)
