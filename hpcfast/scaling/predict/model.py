"""Seconds of a training step: compute, plus what of the communication the backward pass does not hide.

The costs of an allreduce of ``size`` bytes over ``ranks`` processes are those of Thakur, Rabenseifner and Gropp 2005,
"Optimization of Collective Communication Operations in MPICH": a message of m bytes takes latency + m / bandwidth. The
time of the additions is left out: it hides in the bandwidth that is measured.
"""

import math
from dataclasses import dataclass, field
from typing import Literal

from scipy.stats import norm

Algorithm = Literal["ring", "tree", "hierarchical"]


@dataclass(frozen=True)
class Link:
    """What connects two ranks: ``latency`` in seconds, ``bandwidth`` in bytes a second."""

    latency: float
    bandwidth: float


def ring(ranks: int, size: float, link: Link) -> float:
    """Seconds of a ring allreduce: every rank sends ``2 (ranks - 1)`` messages of ``size / ranks`` bytes.

    Least traffic, most messages; Horovod's own (Sergeev and Del Balso 2018).
    """
    return 2 * (ranks - 1) * (link.latency + size / ranks / link.bandwidth)


def tree(ranks: int, size: float, link: Link) -> float:
    """Seconds of Rabenseifner's allreduce: recursive halving, then doubling, in ``2 log2 ranks`` messages.

    The traffic is the ring's. NCCL's double binary tree has the same two terms.
    """
    return 2 * math.ceil(math.log2(ranks)) * link.latency + 2 * (ranks - 1) / ranks * size / link.bandwidth


def hierarchical(nodes: int, per_node: int, size: float, between: Link, within: Link) -> float:
    """Seconds of a reduce-scatter in each node, a ring over nodes of each rank's share, an allgather in each node."""
    return ring(per_node, size, within) + ring(nodes, size / per_node, between)


def exposed(communication: float, compute: float, overlap: float) -> float:
    """Seconds that a step waits for ``communication``, where the share ``overlap`` of ``compute`` can hide it.

    Only the backward pass of the update hides any: an attack's backward pass sends nothing.
    """
    return max(0.0, communication - overlap * compute)


def slowest(ranks: int, spread: float) -> float:
    """Expected time of the slowest of ``ranks``, over the mean's: a step takes as long as its slowest rank.

    For independent normal times with standard deviation ``spread`` (a fraction of the mean). It grows like
    ``spread * sqrt(2 ln ranks)``; this is Blom's approximation, within 0.03 ``spread`` for any number.
    """
    return 1 + spread * float(norm.ppf((ranks - 0.375) / (ranks + 0.25)))


@dataclass(frozen=True)
class Network:
    """Communication as ``hpcfast bench allreduce`` measured it; ``size`` is the gradient's, in bytes."""

    link: Link
    size: float
    algorithm: Algorithm = "tree"
    per_node: int = 1
    within: Link | None = None
    overlap: float = 0.4
    """Of a step's compute: two of five passes over the network, if the attack has one step."""

    def seconds(self, ranks: int) -> float:
        """Of an allreduce, none of it hidden."""
        if self.algorithm == "hierarchical":
            within, per_node = self.within or self.link, min(self.per_node, ranks)
            return hierarchical(math.ceil(ranks / per_node), per_node, self.size, self.link, within)
        return (ring if self.algorithm == "ring" else tree)(ranks, self.size, self.link)


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
            waits = exposed(self.network.seconds(ranks), compute, self.network.overlap)
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
