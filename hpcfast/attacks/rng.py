"""Random numbers from explicit generators: one for a whole batch, or one for each image.

Training draws from one generator a rank. Evaluation gives every image its own, seeded by the image's place in
the data set, so that a result does not depend on batch size or on the number of ranks.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

Source = torch.Generator | Sequence[torch.Generator]


def normal(x: Tensor, source: Source) -> Tensor:
    """Standard normal numbers of the shape of ``x``, float32, on its device."""
    return _drawn(torch.randn, x, source)


def uniform(x: Tensor, source: Source) -> Tensor:
    """Numbers uniform in [0, 1) of the shape of ``x``, float32, on its device."""
    return _drawn(torch.rand, x, source)


def _drawn(draw: Callable[..., Tensor], x: Tensor, source: Source) -> Tensor:
    if isinstance(source, torch.Generator):
        return draw(x.shape, generator=source, device=x.device)
    return torch.stack([draw(x.shape[1:], generator=g) for g in source]).to(x.device)


def select(source: Source, rows: Tensor) -> Source:
    """The generators of ``rows`` (indices, shape (k,)) where each image has its own."""
    if isinstance(source, torch.Generator):
        return source
    return [source[row] for row in rows.tolist()]


def seed_of(*numbers: int) -> int:
    """Mix non-negative ``numbers`` into one 63-bit seed; different numbers give unrelated seeds."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def per_image(seed: int, ids: Tensor, *purpose: int) -> list[torch.Generator]:
    """One CPU generator for each image, a function of (seed, id, purpose) alone."""
    return [torch.Generator().manual_seed(seed_of(seed, index, *purpose)) for index in ids.tolist()]
