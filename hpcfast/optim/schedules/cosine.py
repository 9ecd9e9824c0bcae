"""Cosine decay to zero (Loshchilov and Hutter, ICLR 2017, without restarts)."""

import math

from hpcfast.optim.position import epoch_of
from hpcfast.optim.schedules import Schedule


class Cosine(Schedule):
    """Half a cosine from 1 at the end of the warm-up to 0 at the end of training."""

    def after_warmup(self, epoch: float, epochs: float) -> float:
        warmup = epoch_of(self.warmup, epochs)
        done = (epoch - warmup) / max(epochs - warmup, 1e-9)
        return 0.5 * (1 + math.cos(math.pi * min(max(done, 0.0), 1.0)))
