"""The time of a run on any number of nodes: its start, epochs of steps, and what nodes that fail cost.

Of failures: Daly 2006, "A higher order estimate of the optimum checkpoint interval for restart dumps", FGCS 22. Nodes
fail independently and without memory, the work since the last checkpoint is lost, and failures can strike during
checkpoints and restarts too. Queues and time limits are not in it. All times are in seconds.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import NamedTuple

from hpcfast.errors import UserError
from hpcfast.report.format import count
from hpcfast.runs.failures import interval
from hpcfast.scaling.cells import mixed
from hpcfast.scaling.collect import Row
from hpcfast.scaling.predict import epochs, steps
from hpcfast.scaling.predict.epochs import Epochs, Reached
from hpcfast.scaling.predict.steps import Point, Steps
from hpcfast.scaling.study import Scaling

OUTSIDE = ("start", "lost", "communication")
"""Parts of the clock that are no part of a step's own work; evaluations and checkpoints are shared out over steps."""


@dataclass(frozen=True)
class Model:
    """What the time of a run follows from."""

    scaling: Scaling
    steps: Steps
    epochs: Epochs
    start: float
    images_per_epoch: float
    ranks_per_node: int
    batch: int
    """The global batch if it is strong scaling, else a rank's, in images."""

    def global_batch(self, nodes: int) -> int:
        """Images of a step, of all ranks."""
        return self.batch if self.scaling == "strong" else self.batch * nodes * self.ranks_per_node

    def step(self, nodes: int) -> float:
        ranks = nodes * self.ranks_per_node
        return self.steps.seconds(ranks, self.global_batch(nodes) / ranks)

    def ttra(self, nodes: int) -> float:
        """Time to the target; infinite where :meth:`why_not` says why."""
        batch = self.global_batch(nodes)
        needed = self.epochs.at(batch)
        if needed is None or self.why_not(nodes):
            return math.inf
        return self.start + needed * self.images_per_epoch / batch * self.step(nodes)

    def why_not(self, nodes: int) -> str:
        """Why nothing can be predicted for so many nodes, or an empty string."""
        batch, ranks, every = self.global_batch(nodes), nodes * self.ranks_per_node, self.images_per_epoch
        if batch < ranks:
            return f"A batch of {batch:,} images does not feed the {count(ranks, 'rank')} of {count(nodes, 'node')}"
        if batch > every:
            return f"A batch of {batch:,} images is more than the {every:,.0f} of the data set ({count(nodes, 'node')})"
        if self.epochs.at(batch) is None:
            return f"The epochs that a batch of {batch:,} images needs are unknown: {self.epochs.origin}"
        return ""


class Failures(NamedTuple):
    """What failures of nodes cost a long run, which no small study shows."""

    mtbf: float
    """Mean time between failures of one node."""
    checkpoint: float
    """Writing one keeps the run waiting so long."""
    restart: float
    """From a failure to the next step."""

    def interval(self, nodes: int) -> float:
        """Time of work between checkpoints that loses least."""
        return interval(self.checkpoint, self.mtbf / nodes)

    def expected(self, nodes: int, work: float) -> float:
        """Time that ``work`` takes with checkpoints at the best interval; infinite where it would hardly end."""
        mean, interval = self.mtbf / nodes, min(self.interval(nodes), work)
        exponent = (interval + self.checkpoint) / mean
        if exponent + self.restart / mean > 50:
            return math.inf
        return mean * math.exp(self.restart / mean) * math.expm1(exponent) * work / interval


def fit(rows: Sequence[Row], scaling: Scaling) -> Model:
    """Fit a model of runs of ``scaling`` to usable ``rows`` of any scaling.

    Raises:
        UserError: they are too few, or met no target.
    """
    batches = {row.global_batch // (1 if scaling == "strong" else row.ranks) for row in rows if row.scaling == scaling}
    if len(batches) != 1:
        raise UserError(f"no single batch: {', '.join(map(str, sorted(batches))) or 'no run has trained'}")
    reached = [
        Reached(row.global_batch, row.epochs or 0.0, row.noise_scale, row.every or 0)
        for row in rows
        if row.status == "converged"
    ]
    known = steps.fit([point(row) for row in rows])
    start = fmean(row.seconds.get("start", 0.0) for row in rows)
    images = median((row.images or 0) / (row.epochs or 1) for row in rows)
    return Model(scaling, known, epochs.fit(reached), start, images, rows[0].ranks // rows[0].nodes, batches.pop())


def point(row: Row) -> Point:
    """The mean step of a run; of the clock's parts if there are any, else of the time in training."""
    count, batch = row.steps or 1, row.global_batch / row.ranks
    spent = sum(seconds for part, seconds in row.seconds.items() if part not in OUTSIDE)
    if not spent:
        return Point(row.ranks, batch, (row.train_seconds or 0.0) / count)
    if (waited := row.seconds.get("communication")) is None:
        return Point(row.ranks, batch, spent / count)
    return Point(row.ranks, batch, (spent + waited) / count, waited / count)


def usable(rows: Sequence[Row]) -> list[Row]:
    """Those of one data set and method that trained with cores or GPUs of their ranks' own.

    Raises:
        UserError: there are none, or they differ in more than nodes, batch and seed.
    """
    told = [row for row in rows if row.done and row.steps and row.epochs and row.images and point(row).seconds]
    if not told:
        raise UserError("no run has told how long its steps took; run the study first ('hpcfast scaling run')")
    alone = [row for row in told if not row.shares]
    if not alone:
        raise UserError("the ranks of every run shared cores or GPUs; run the study where each has its own")
    if wrong := mixed(alone, ("hardware", "versions", "target")):
        raise UserError(f"mixed {', '.join(wrong)}; run all jobs alike, in a study of its own")
    return alone
