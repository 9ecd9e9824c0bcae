"""What the seeds of a cell say together, by MLPerf's rules.

A cell is all jobs of one data set, method, scaling and node count. Of five seeds or more the fastest and the slowest
are dropped and the rest is averaged (Mattson et al. 2020, "MLPerf Training Benchmark"). A run that did not converge is
infinitely slow: one of five is the dropped slowest, with two the cell has no result. With fewer than five none is
dropped. Jobs that did not end are never averaged over silently: ``Cell.absent`` names them.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean, stdev
from typing import NamedTuple

from hpcfast.scaling.rows import PARTS, Row

ENOUGH = 5
"""From so many seeds on, the fastest and the slowest are dropped."""
ALIKE = ("hardware", "versions", "target", "global_batch")
"""Runs that differ in one of these are not averaged."""


@dataclass(frozen=True)
class Cell:
    """The jobs of one data set, method, scaling and node count."""

    rows: tuple[Row, ...]

    @property
    def key(self) -> tuple[str, str, str, int]:
        first = self.rows[0]
        return first.data, first.method, first.scaling, first.nodes

    @property
    def series(self) -> tuple[str, str, str]:
        return self.key[:3]

    @property
    def nodes(self) -> int:
        return self.key[3]

    @property
    def name(self) -> str:
        data, method, scaling, nodes = self.key
        return f"{data}, {method}, {scaling}, {count(nodes, 'node')}"

    @cached_property
    def ended(self) -> tuple[Row, ...]:
        """Those that trained to their end; the fastest first, those that did not converge last."""
        ended = [row for row in self.rows if row.status in ("converged", "not converged")]
        return tuple(sorted(ended, key=time_of))

    @property
    def absent(self) -> tuple[Row, ...]:
        """Missing, crashed or unfinished."""
        return tuple(row for row in self.rows if row not in self.ended)

    @cached_property
    def converged(self) -> tuple[Row, ...]:
        return tuple(row for row in self.ended if math.isfinite(time_of(row)))

    @cached_property
    def mixed(self) -> tuple[str, ...]:
        """What differs among the runs and forbids an average: ``hardware (A; B)``."""
        found = []
        for field in ALIKE:
            values = sorted({str(getattr(row, field)) for row in self.ended if getattr(row, field) not in ("", None)})
            if len(values) > 1:
                found.append(f"{field.replace('_', ' ')} ({'; '.join(values)})")
        return tuple(found)

    @property
    def shared(self) -> bool:
        """Whether ranks of a run that ended shared cores or GPUs."""
        return any(row.shares for row in self.ended)

    @cached_property
    def counted(self) -> tuple[Row, ...]:
        """The runs that are averaged; none if the cell has no result."""
        if self.mixed:
            return ()
        kept = self.ended[1:-1] if len(self.ended) >= ENOUGH else self.ended
        return kept if all(math.isfinite(time_of(row)) for row in kept) else ()

    @property
    def why_none(self) -> str:
        """Why there is no time to robust accuracy, or an empty string."""
        if self.counted:
            return ""
        if not self.ended:
            return "no run has ended"
        if self.mixed:
            return f"not averaged: mixed {', '.join(self.mixed)}"
        return f"{len(self.ended) - len(self.converged)} of {len(self.ended)} did not converge"

    @cached_property
    def ttra(self) -> float | None:
        """Seconds to robust accuracy."""
        return self._mean(self.counted, lambda row: row.ttra)

    @property
    def variation(self) -> float | None:
        """Coefficient of variation of all runs that converged: sample standard deviation / mean."""
        times = [time_of(row) for row in self.converged]
        return stdev(times) / fmean(times) if len(times) > 1 and not self.mixed else None

    @cached_property
    def epochs(self) -> float | None:
        """Epochs to the target: what the method and the batch decide."""
        return self._mean(self.counted, lambda row: row.epochs)

    @property
    def seconds_per_epoch(self) -> float | None:
        """All of the clock over the epochs, so that the two factors multiply to ``ttra``."""
        return self.ttra / self.epochs if self.ttra is not None and self.epochs else None

    @cached_property
    def images_per_second(self) -> float | None:
        """While training. Of all runs that ended: speed does not ask whether they converged."""
        return None if self.mixed else self._mean(self.ended, lambda row: row.images_per_second)

    @cached_property
    def shares(self) -> dict[str, float]:
        """Of the clock, by PARTS, over all runs that ended; empty where it was not measured."""
        spent = [row.seconds for row in self.ended if row.seconds]
        total = sum(sum(seconds.values()) for seconds in spent)
        if self.mixed or not total:
            return {}
        return {part: sum(seconds.get(part, 0.0) for seconds in spent) / total for part in PARTS}

    @property
    def node_hours(self) -> float | None:
        """To robust accuracy."""
        return None if self.ttra is None else self.nodes * self.ttra / 3600

    @property
    def joules(self) -> float | None:
        """Over all nodes; None unless it was measured in every run that counts."""
        return self._mean(self.counted, lambda row: row.joules)

    @property
    def global_batch(self) -> int | None:
        return None if self.mixed or not self.ended else self.ended[0].global_batch

    @property
    def target(self) -> float | None:
        return next((row.target for row in self.rows if row.target is not None), None)

    def cost(self, price_per_node_hour: float | None) -> float | None:
        """Of one time to robust accuracy, in the unit of the price."""
        hours = self.node_hours
        return None if hours is None or price_per_node_hour is None else hours * price_per_node_hour

    @staticmethod
    def _mean(rows: Iterable[Row], value: Callable[[Row], float | None]) -> float | None:
        values = [value(row) for row in rows]
        known = [each for each in values if each is not None]
        return fmean(known) if known and len(known) == len(values) else None


class Gain(NamedTuple):
    """A cell against the one with the fewest nodes of the same data set, method and scaling."""

    speed_up: float
    efficiency: float
    """Speed-up over how many times as many nodes; 1 is ideal."""


def time_of(row: Row) -> float:
    """Seconds to robust accuracy; infinite where it was not reached."""
    return math.inf if row.ttra is None or row.status != "converged" else row.ttra


def cells(rows: Iterable[Row]) -> list[Cell]:
    """All cells, in the order of data set, method, scaling and node count."""
    groups: dict[tuple[str, str, str, int], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.data, row.method, row.scaling, row.nodes), []).append(row)
    return [Cell(tuple(sorted(groups[key], key=lambda row: row.seed))) for key in sorted(groups)]


def gain(cell: Cell, among: Iterable[Cell]) -> Gain | None:
    """Speed-up and efficiency: of the time to robust accuracy (strong scaling), of images a second (weak scaling).

    None where the cell or the one with the fewest nodes has no result, or had ranks that shared cores or GPUs.
    """
    base = min((each for each in among if each.series == cell.series), key=lambda each: each.nodes)
    if cell.series[2] == "weak":
        fast, slow = cell.images_per_second, base.images_per_second
    else:
        fast, slow = base.ttra, cell.ttra
    if not fast or not slow or cell.shared or base.shared:
        return None
    return Gain(fast / slow, fast / slow / (cell.nodes / base.nodes))


def count(n: int, what: str) -> str:
    """``1 node``, ``2 nodes``."""
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"
