"""What a study will do, how long that takes and what it costs, by those jobs that are done."""

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from hpcfast.report.format import duration
from hpcfast.scaling.jobs import Job, Kind
from hpcfast.scaling.study import Study
from hpcfast.report.table import Table


def estimates(jobs: Iterable[Job]) -> dict[Kind, float]:
    """Seconds that a job takes, start and confirmation included, by kind: the mean of those that are done."""
    seen: dict[Kind, list[float]] = defaultdict(list)
    for job in jobs:
        if job.seconds is not None:
            seen[job.kind].append(job.seconds)
    return {kind: statistics.mean(seconds) for kind, seconds in seen.items()}


def seconds_left(left: Iterable[Job], jobs: Iterable[Job]) -> float | None:
    """Seconds of those ``left`` of ``jobs``, one after another; None before one of each of their kinds is done."""
    known = estimates(jobs)
    seconds = sum(known.get(job.kind, math.nan) for job in left)
    return None if math.isnan(seconds) else seconds


def table(study: Study, jobs: list[Job]) -> Table:
    """A line for each kind of job; a time only where one of its kind is done."""
    known, alike = estimates(jobs), defaultdict(list)
    for job in jobs:
        alike[job.kind].append(job)
    rows = []
    for kind, own in alike.items():
        sizes = [kind.nodes, own[0].ranks, own[0].batch, own[0].batch * own[0].ranks]
        done = f"{sum(job.state == 'done' for job in own)} of {len(own)}"
        took = duration(known[kind]) if kind in known else "unknown"
        rows.append([kind.data, kind.method, kind.scaling, *map(str, sizes), done, took])
    columns = "data|method|scaling|#nodes|#ranks|#batch a rank|#global batch|#done|#a job takes"
    return Table(f"{study.name}: {study.title}", columns.split("|"), rows)


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
    known, left = estimates(jobs), [job for job in jobs if job.state != "done"]
    hours = sum(job.kind.nodes * known.get(job.kind, math.nan) for job in left) / 3600
    price = study.price_per_node_hour
    return {
        "study": study.name,
        "jobs": len(jobs),
        "done": len(jobs) - len(left),
        "left": len(left),
        "node_hours_left": None if math.isnan(hours) else hours,
        "cost_left": None if math.isnan(hours) or price is None else hours * price,
        "plan": [
            {"job": job.name, "nodes": job.kind.nodes, "ranks": job.ranks, "state": job.state, "run": job.arguments}
            for job in jobs
        ],
    }
