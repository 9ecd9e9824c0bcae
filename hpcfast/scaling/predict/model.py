"""Seconds of a training step: compute, plus what of the communication the backward pass does not hide."""

import math
from dataclasses import dataclass, field
from typing import Literal

from scipy.stats import norm

from hpcfast.scaling.predict.network import Network


def slowest(ranks: int, spread: float) -> float:
    """Expected time of the slowest of ``ranks``, over the mean's: a step takes as long as its slowest rank.

    For independent normal times with standard deviation ``spread`` (a fraction of the mean). It grows like
    ``spread * sqrt(2 ln ranks)``; this is Blom's approximation, within 0.03 ``spread`` for any number.
    """
    return 1 + spread * float(norm.ppf((ranks - 0.375) / (ranks + 0.25)))


Growth = Literal["tree", "ring", "flat"]
GROWTHS: tuple[Growth, ...] = ("tree", "ring", "flat")
"""How fitted communication may grow with the ranks: like messages of a tree, of a ring, or like traffic alone."""


def grown(ranks: int, growth: Growth) -> float:
    """Messages one after another, or times that a rank's gradient passes its link; 0 for one rank."""
    if growth == "tree":
        return 2 * math.log2(ranks)
    return 2 * (ranks - 1) if growth == "ring" else 2 * (ranks - 1) / ranks


@dataclass(frozen=True)
class Steps:
    """A fitted model of step time."""

    coefficients: dict[str, float] = field(default_factory=dict)
    """Seconds by term: ``image`` (compute), ``fixed`` (a step), ``grown`` and ``flat`` (exposed communication)."""
    growth: Growth = "tree"
    network: Network | None = None
    """Where it is known, communication is computed, not fitted."""

    def seconds(self, ranks: int, batch: float) -> float:
        """Of a step of ``ranks`` processes with ``batch`` images each."""
        return sum(self.parts(ranks, batch).values())

    def parts(self, ranks: int, batch: float) -> dict[str, float]:
        """The same, split into ``compute`` and exposed ``communication``."""
        compute = self._sum(compute_terms(batch))
        if self.network:
            waits = max(0.0, self.network.seconds(ranks) - self.network.overlap * compute)
        else:
            waits = self._sum(communication_terms(ranks, self.growth))
        return {"compute": compute, "communication": waits}

    def _sum(self, terms: dict[str, float]) -> float:
        return sum(self.coefficients.get(name, 0.0) * value for name, value in terms.items())


def compute_terms(batch: float) -> dict[str, float]:
    """What the coefficients of compute are multiplied with."""
    return {"image": batch, "fixed": 1.0}


def communication_terms(ranks: int, growth: Growth) -> dict[str, float]:
    """What the coefficients of exposed communication are multiplied with."""
    return {"grown": grown(ranks, growth), "flat": grown(ranks, "flat")}
