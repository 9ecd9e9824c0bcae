"""What the seeds of a cell say together, by MLPerf's rules.

A cell is all jobs of one data set, method, scaling and node count. Of five seeds or more the fastest and the slowest
are dropped and the rest is averaged (Mattson et al. 2020, "MLPerf Training Benchmark"). A run that did not converge is
infinitely slow: one of five is the dropped slowest, with two the cell has no result. With fewer than five none is
dropped. Jobs that did not end are never averaged over silently: the report warns of them.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean, stdev

from hpcfast.report.format import count
from hpcfast.runs.clock import PARTS
from hpcfast.scaling.collect import Row
from hpcfast.scaling.jobs import Kind

ENOUGH = 5
"""From so many seeds on, the fastest and the slowest are dropped."""
ALIKE = ("hardware", "versions", "target", "global_batch")
"""Runs that differ in one of these are not averaged."""


@dataclass(frozen=True)
class Cell:
    """The jobs of one kind, by seed; numbers that are not known are NaN."""

    kind: Kind
    rows: tuple[Row, ...]
    ended: tuple[Row, ...]
    """Those that trained to their end; the fastest first, those that did not converge last."""
    converged: tuple[Row, ...]
    mixed: tuple[str, ...]
    """What differs among the runs and forbids an average: ``hardware (A; B)``."""
    counted: tuple[Row, ...]
    """The runs that are averaged; none if the cell has no result."""
    why_none: str
    """Why there is no time to robust accuracy, or an empty string."""
    ttra: float
    variation: float
    """Coefficient of variation of all runs that converged: sample standard deviation / mean."""
    epochs: float
    """Epochs to the target: what the method and the batch decide."""
    seconds_per_epoch: float
    """All of the clock over the epochs: the two factors multiply to ``ttra``."""
    node_hours: float
    joules: float
    """Over all nodes; NaN unless it was measured in every run that counts."""
    images_per_second: float
    """While training. Of all runs that ended: speed does not ask whether they converged."""
    shares: dict[str, float]
    """Of the clock, by PARTS, over all runs that ended; empty where it was not measured."""
    global_batch: int | None

    @property
    def series(self) -> tuple[str, str, str]:
        return self.kind[:3]

    @property
    def nodes(self) -> int:
        return self.kind.nodes

    @property
    def name(self) -> str:
        return f"{', '.join(self.series)}, {count(self.nodes, 'node')}"

    @property
    def shared(self) -> bool:
        """Whether ranks of a run that ended shared cores or GPUs."""
        return any(row.shares for row in self.ended)


def cells(rows: Iterable[Row]) -> list[Cell]:
    """All cells, in the order of data set, method, scaling and node count."""
    ordered = sorted(rows, key=lambda row: (row.kind, row.seed))
    return [_cell(kind, tuple(group)) for kind, group in groupby(ordered, lambda row: row.kind)]


def _cell(kind: Kind, rows: tuple[Row, ...]) -> Cell:
    ended = tuple(sorted((row for row in rows if row.done), key=lambda row: row.time))
    converged = tuple(row for row in ended if math.isfinite(row.time))
    differs = mixed(ended, ALIKE)
    kept = ended[1:-1] if len(ended) >= ENOUGH else ended
    counted = kept if not differs and all(math.isfinite(row.time) for row in kept) else ()
    why_none = "" if counted else f"{len(ended) - len(converged)} of {len(ended)} did not converge"
    if differs or not ended:
        why_none = f"not averaged: mixed {', '.join(differs)}" if differs else "no run has ended"
    alike = () if differs else ended
    ttra, epochs = _mean(row.ttra for row in counted), _mean(row.epochs for row in counted)
    spent = [row.seconds for row in alike if row.seconds]
    total = sum(sum(seconds.values()) for seconds in spent)
    times = [row.time for row in converged]
    return Cell(
        kind, rows, ended, converged, differs, counted, why_none, ttra,
        variation=stdev(times) / fmean(times) if len(times) > 1 and alike else math.nan,
        epochs=epochs,
        seconds_per_epoch=ttra / (epochs or math.nan),
        node_hours=kind.nodes * ttra / 3600,
        joules=_mean(row.joules for row in counted),
        images_per_second=_mean(row.images_per_second for row in alike),
        shares={part: sum(each.get(part, 0.0) for each in spent) / total for part in PARTS} if total else {},
        global_batch=alike[0].global_batch if alike else None,
    )  # fmt: skip


def mixed(rows: Iterable[Row], fields: Iterable[str]) -> tuple[str, ...]:
    """Those of ``fields`` in which ``rows`` differ, as far as it is known: ``hardware (A; B)``."""
    known = {
        field: {str(value) for row in rows if (value := getattr(row, field)) not in ("", None)} for field in fields
    }
    names = {field.replace("_", " "): sorted(values) for field, values in known.items() if len(values) > 1}
    return tuple(f"{name} ({'; '.join(values)})" for name, values in names.items())


def gain(cell: Cell, among: Iterable[Cell]) -> tuple[float, float]:
    """Speed-up, and efficiency: that over how many times as many nodes (1 is ideal).

    Against the cell with the fewest nodes of the same data set, method and scaling; of the time to robust accuracy
    (strong scaling), of images a second (weak scaling). NaN where either cell has no result, or had ranks that shared
    cores or GPUs.
    """
    base = min((each for each in among if each.series == cell.series), key=lambda each: each.nodes)
    if cell.shared or base.shared:
        return math.nan, math.nan
    weak = cell.kind.scaling == "weak"
    fast, slow = (cell.images_per_second, base.images_per_second) if weak else (base.ttra, cell.ttra)
    speed_up = fast / (slow or math.nan)
    return speed_up, speed_up / (cell.nodes / base.nodes)


def _mean(values: Iterable[float | None]) -> float:
    """NaN where one is not known, or there are none."""
    return fmean([math.nan if value is None else value for value in values] or [math.nan])
