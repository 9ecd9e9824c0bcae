"""What a study's rows say of one data set and method: step times, epochs to the target, time beside the steps."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from hpcfast.errors import UserError
from hpcfast.scaling.predict.epochs import Reached
from hpcfast.scaling.predict.fit import Point
from hpcfast.scaling.rows import Row

IN_STEPS = ("attack", "update", "communication", "data_wait", "other")
"""Parts of the clock that belong to a step."""


@dataclass(frozen=True)
class Beside:
    """Seconds that are not in steps, means over the runs. What interruptions cost is left out: see ``simulate``."""

    start: float
    shared: float
    """An epoch's evaluation on one rank, as far as the ranks share it."""
    fixed: float
    """The rest of it, which each rank has."""
    rest: float
    """An epoch's: guard and checkpoints."""

    def seconds(self, ranks: int, epochs: float) -> float:
        """Of a run."""
        return self.start + epochs * (self.shared / ranks + self.fixed + self.rest)


@dataclass(frozen=True)
class Evidence:
    """All that a prediction uses; ``rows`` are those that were trained by ranks with cores or GPUs of their own."""

    rows: tuple[Row, ...]
    per_node: int
    """Ranks a node."""
    images: float
    """An epoch's."""
    beside: Beside
    crowded: tuple[Row, ...] = ()
    """Rows that are left out, because their ranks shared cores or GPUs."""

    @property
    def points(self) -> list[Point]:
        """The step time of each run."""
        return [point(row) for row in self.rows]

    @property
    def reached(self) -> list[Reached]:
        """The epochs of each run that met its target."""
        met = [row for row in self.rows if row.status == "converged" and row.epochs]
        return [Reached(row.global_batch or 0, row.epochs or 0.0, row.noise_scale, row.every or 0) for row in met]

    @property
    def cells(self) -> list[list[Row]]:
        """Its rows in groups of equal nodes and batch."""
        found: dict[tuple[int, float], list[Row]] = {}
        for row in self.rows:
            found.setdefault((row.nodes, point(row).batch), []).append(row)
        return [found[cell] for cell in sorted(found)]

    def without(self, cell: Sequence[Row]) -> "Evidence":
        """The same of other node counts than that of ``cell``, or, of two counts only, of other cells."""
        if len({row.nodes for row in self.rows}) > 2:
            return gather([row for row in self.rows if row.nodes != cell[0].nodes])
        return gather([row for row in self.rows if row not in cell])


def gather(rows: Sequence[Row]) -> Evidence:
    """Collect what ``rows``, all of one data set and method, have measured.

    Raises:
        UserError: none has trained with cores or GPUs of its ranks' own; or they ran on mixed hardware or versions, or
            with other ranks a node.
    """
    told = [row for row in rows if _told(row)]
    if not told:
        raise UserError("no run has told how long its steps took; run the study first ('hpcfast scaling run')")
    trained, crowded = (tuple(row for row in told if row.shares == shared) for shared in (False, True))
    if not trained:
        raise UserError("the ranks of every run shared cores or GPUs; run the study where each has its own")
    for what, values in (
        ("hardware", {row.hardware for row in trained}),
        ("versions", {row.versions for row in trained}),
        ("ranks a node", {str(row.ranks // row.nodes) for row in trained}),
        ("targets", {str(row.target) for row in trained}),
    ):
        if len(values) > 1:
            mixed = "; ".join(sorted(values))
            raise UserError(f"mixed {what} ({mixed}); run all jobs alike, in a study of its own")
    sizes = [(row.images or 0) / (row.epochs or 1) for row in trained]
    return Evidence(trained, trained[0].ranks // trained[0].nodes, float(np.median(sizes)), _beside(trained), crowded)


def point(row: Row) -> Point:
    """The mean step time of a run; the clock's parts if there are any, else the time in training."""
    steps, batch = row.steps or 1, (row.global_batch or 0) / row.ranks
    spent = sum(row.seconds.get(part, 0.0) for part in IN_STEPS)
    if not spent:
        return Point(row.nodes, row.ranks, batch, (row.train_seconds or 0.0) / steps)
    waited = row.seconds["communication"] / steps if "communication" in row.seconds else None
    return Point(row.nodes, row.ranks, batch, spent / steps, waited)


def _told(row: Row) -> bool:
    done = row.status in ("converged", "not converged")
    return bool(done and row.steps and row.epochs and row.images and row.global_batch and point(row).seconds > 0)


def _beside(rows: Sequence[Row]) -> Beside:
    start = [row.seconds.get("start", 0.0) for row in rows]
    rest = [sum(row.seconds.get(part, 0.0) for part in ("guard", "checkpoint")) / (row.epochs or 1) for row in rows]
    return Beside(float(np.mean(start)), *_evaluation(rows), float(np.mean(rest)))


def _evaluation(rows: Sequence[Row]) -> tuple[float, float]:
    """The ``shared`` and the ``fixed`` part of an epoch's evaluation; all is shared where one rank count was run."""
    known = [(row, took / (row.epochs or 1)) for row in rows if (took := row.seconds.get("evaluation"))]
    if not known:
        return 0.0, 0.0
    relative = np.array([[1 / row.ranks / took, 1 / took] for row, took in known])
    terms = 1 if len({row.ranks for row in rows}) == 1 else 2
    values, _ = nnls(relative[:, :terms], np.ones(len(known)))
    return float(values[0]), float(values[1]) if terms == 2 else 0.0
