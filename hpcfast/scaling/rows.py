"""What is known of each job of a study: the table that reports, comparisons and predictions are made of."""

import math
from dataclasses import dataclass, field
from typing import Literal

from hpcfast.runs.clock import PARTS as PARTS

Scaling = Literal["strong", "weak"]
Status = Literal["converged", "not converged", "crashed", "unfinished", "missing"]


@dataclass(frozen=True)
class Row:
    """One job: what it was to do, how it ended and, if it got so far, what it measured. Times are in seconds."""

    job: str
    """Its name, which is its run directory's: ``digits-fast-strong-2-seed0``."""
    data: str
    method: str
    scaling: Scaling
    nodes: int
    ranks: int
    seed: int
    status: Status
    note: str = ""
    """Why it has no time to robust accuracy."""
    global_batch: int | None = None
    target: float | None = None
    ttra: float | None = None
    """Time to robust accuracy: from the run's first start to the target met, if the confirmation agreed."""
    epochs: float | None = None
    """Until training ended: at the target, or at the run's end."""
    every: int | None = None
    """Epochs from one look at the target to the next."""
    steps: int | None = None
    images: int | None = None
    """Trained on, over all ranks, those of steps that were undone too."""
    train_seconds: float | None = None
    images_per_second: float | None = None
    clean_accuracy: float | None = None
    robust_accuracy: float | None = None
    """Under the monitor's attack, when training ended."""
    confirmed: dict[str, float] = field(default_factory=dict)
    """Robust accuracy by attack, off the clock."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Of the clock, on rank 0, by PARTS; they add up to the clock's reading when training ended."""
    noise_scale: float | None = None
    """Gradient noise scale (McCandlish et al. 2018), images."""
    joules: float | None = None
    """Over all nodes; None where nothing measures it."""
    slots: int | None = None
    """Ranks that find a GPU, or cores for their threads, of their own."""
    hardware: str = ""
    versions: str = ""
    stragglers: tuple[str, ...] = ()
    """``rank 3 on n2: 1.4 times the median step``."""

    @property
    def done(self) -> bool:
        """Whether it trained to its end."""
        return self.status in ("converged", "not converged")

    @property
    def time(self) -> float:
        """Seconds to robust accuracy; infinite where it was not reached."""
        return math.inf if self.ttra is None or self.status != "converged" else self.ttra

    @property
    def shares(self) -> bool:
        """Whether its ranks had to share cores or GPUs: its speed then says nothing of ranks that have their own."""
        return self.slots is not None and self.ranks > self.slots
