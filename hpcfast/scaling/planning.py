"""What a study will do, how long that takes and what it costs, by those jobs that are done."""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from rich.table import Table

from hpcfast.scaling.jobs import Job, Kind
from hpcfast.scaling.study import Study


class Estimates:
    """Seconds a job, start and confirmation included: the mean of those of its kind that are done."""

    def __init__(self, jobs: Iterable[Job]) -> None:
        self._seen: dict[Kind, list[float]] = defaultdict(list)
        for job in jobs:
            self.add(job)

    def add(self, job: Job) -> None:
        """Take a job into account, if it is done."""
        if job.seconds is not None:
            self._seen[job.kind].append(job.seconds)

    def of(self, kind: Kind) -> float | None:
        """Seconds of a job, None while none of this kind is done."""
        return statistics.mean(self._seen[kind]) if self._seen.get(kind) else None

    def sum(self, jobs: Sequence[Job]) -> float | None:
        """Seconds of all ``jobs``, one after another; None before one of each kind is done."""
        known = [seconds for job in jobs if (seconds := self.of(job.kind)) is not None]
        return sum(known) if len(known) == len(jobs) else None


def words(seconds: float) -> str:
    """``40 s``, ``12 min``, ``3.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def table(study: Study, jobs: list[Job]) -> Table:
    """A line for each kind of job; a time only where one of its kind is done."""
    estimates = Estimates(jobs)
    shown = Table(title=f"{study.name}: {study.title}", title_justify="left")
    for column in ("data", "method", "scaling"):
        shown.add_column(column)
    for column in ("nodes", "ranks", "batch a rank", "global batch", "done", "a job takes"):
        shown.add_column(column, justify="right")
    for kind in dict.fromkeys(job.kind for job in jobs):
        alike = [job for job in jobs if job.kind == kind]
        done = sum(job.state == "done" for job in alike)
        seconds = estimates.of(kind)
        sizes = [kind.nodes, alike[0].ranks, alike[0].batch, alike[0].batch * alike[0].ranks]
        took = "unknown" if seconds is None else words(seconds)
        shown.add_row(kind.data, kind.method, kind.scaling, *map(str, sizes), f"{done} of {len(alike)}", took)
    return shown


def sentence(study: Study, jobs: list[Job]) -> str:
    """How much is left, and what it costs."""
    found = numbers(study, jobs)
    hours, cost = found["node_hours_left"], found["cost_left"]
    said = f"{found['jobs']} jobs, {found['done']} done"
    if not found["left"]:
        return f"{said}; 'hpcfast scaling report' shows what they found"
    said += f"; {found['left']} left: "
    said += "node-hours unknown until a job of each kind is done" if hours is None else f"{hours:.3g} node-hours"
    return said + ("" if cost is None else f", cost {cost:.2f}")


def numbers(study: Study, jobs: list[Job]) -> dict[str, Any]:
    """The plan for programs; hours and cost are None where no job of a kind is done, cost also without a price."""
    estimates = Estimates(jobs)
    left = [job for job in jobs if job.state != "done"]
    each = [(job.kind.nodes, estimates.of(job.kind)) for job in left]
    known = [nodes * seconds / 3600 for nodes, seconds in each if seconds is not None]
    hours = sum(known) if len(known) == len(each) else None
    price = study.price_per_node_hour
    return {
        "study": study.name,
        "jobs": len(jobs),
        "done": len(jobs) - len(left),
        "left": len(left),
        "node_hours_left": hours,
        "cost_left": None if hours is None or price is None else hours * price,
        "plan": [
            {"job": job.name, "nodes": job.kind.nodes, "ranks": job.ranks, "state": job.state, "run": job.arguments}
            for job in jobs
        ],
    }
