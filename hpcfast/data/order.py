"""In which order an epoch reads its images: a function of (seed, epoch) alone, not of the number of ranks.

Orders are worked out here, in numpy, so that DALI only reads what it is told to.
"""

from collections.abc import Collection

import numpy as np


def train_order(
    n: int,
    seed: int,
    epoch: int,
    ranks: int,
    batch: int,
    done: int = 0,
    steps: int | None = None,
    skips: Collection[int] = (),
) -> np.ndarray:
    """Ids in the order in which they must be read so that each global step takes the next images of one permutation.

    Rank r reads the r-th contiguous block of it. What is left of the permutation of (seed, epoch) is cut to whole
    global batches and dealt out: in step s, rank r has its images ``s * ranks * batch + r * batch`` onwards.

    Args:
        n: images in the split, with those in ``skips``, the ids of bad ones; the others keep their order.
        batch: images a rank and optimizer step; with accumulation, of all its micro batches.
        done: images of this epoch that were trained on already, by any number of ranks.
        steps: at most so many global batches; by default all that are left.

    Returns:
        Shape (steps * ranks * batch,), int64, no id twice; empty if less than a global batch is left.
    """
    rest = _permutation(n, seed, epoch, skips)[done:]
    whole = len(rest) // (ranks * batch)
    steps = whole if steps is None else min(steps, whole)
    return rest[: steps * ranks * batch].reshape(steps, ranks, batch).swapaxes(0, 1).reshape(-1)


def resume_offset(n: int, seed: int, epoch: int, done: int, before: Collection[int], now: Collection[int]) -> int:
    """How many of an epoch's first ``done`` images, found without the skips ``before``, are not among ``now``."""
    return done - int(np.isin(_permutation(n, seed, epoch, before)[:done], [*now]).sum())


def _permutation(n: int, seed: int, epoch: int, skips: Collection[int]) -> np.ndarray:
    everything = np.random.default_rng([seed, epoch]).permutation(n)
    return everything[~np.isin(everything, [*skips])]
