"""The time of a run: its start, and for each epoch its steps, its evaluation, its guard and checkpoints."""

import math
from dataclasses import dataclass
from typing import Literal

from hpcfast.scaling.predict.epochs import Epochs
from hpcfast.scaling.predict.evidence import Beside
from hpcfast.scaling.predict.model import Steps

Scaling = Literal["strong", "weak"]
GAIN = 0.1
"""A doubling of the nodes that saves less time than this is not worth it: there is the knee."""


@dataclass(frozen=True)
class Run:
    """What the time of a run follows from."""

    steps: Steps
    epochs: Epochs
    beside: Beside
    images: float
    """An epoch's."""
    per_node: int
    batch: int
    """The global batch if it is ``strong`` scaling, else a rank's, in images."""
    scaling: Scaling

    def global_batch(self, nodes: int) -> int:
        """Images of a step, of all ranks."""
        return self.batch if self.scaling == "strong" else self.batch * nodes * self.per_node

    def step(self, nodes: int) -> float:
        """Seconds of a step."""
        ranks = nodes * self.per_node
        return self.steps.seconds(ranks, self.global_batch(nodes) / ranks)

    def ttra(self, nodes: int) -> float:
        """Seconds to the target; infinite if a rank would get no image, or the data set is smaller than a step."""
        ranks, batch = nodes * self.per_node, self.global_batch(nodes)
        needed = self.epochs.at(batch)
        if batch < ranks or batch > self.images or needed is None:
            return math.inf
        return needed * self.images / batch * self.step(nodes) + self.beside.seconds(ranks, needed)

    def why_not(self, nodes: int) -> str:
        """Why :meth:`ttra` is infinite, in words."""
        batch, ranks = self.global_batch(nodes), nodes * self.per_node
        if batch < ranks:
            return f"A batch of {batch:,} images does not feed the {ranks:,} ranks of {nodes:,} nodes"
        if batch > self.images:
            return f"A batch of {batch:,} images is more than the {self.images:,.0f} of the data set ({nodes:,} nodes)"
        return f"The epochs that a batch of {batch:,} images needs are unknown: {self.epochs.origin}"

    def knee(self, upto: int) -> int | None:
        """The first of 1, 2, 4, … nodes whose doubling makes the run less than GAIN shorter; None: none up to there."""
        nodes = 1
        while nodes <= upto:
            if self.ttra(2 * nodes) > (1 - GAIN) * self.ttra(nodes):
                return nodes
            nodes *= 2
        return None
