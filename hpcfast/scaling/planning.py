"""What a study will do, how long that takes and what it costs, by those jobs that are done."""

import math
from collections import defaultdict
from collections.abc import Iterable
from statistics import mean
from typing import Any

from hpcfast.report.format import Table, count, duration
from hpcfast.scaling import tables
from hpcfast.scaling.jobs import Job, Kind, last_end
from hpcfast.scaling.study import Study


def estimates(jobs: Iterable[Job]) -> dict[Kind, float]:
    """Seconds that a job takes, start and confirmation included, by kind: the mean of those that are done."""
    seen: dict[Kind, list[float]] = defaultdict(list)
    for job in jobs:
        _, seconds = last_end(job.log)
        if job.state == "done" and seconds is not None:
            seen[job.kind].append(seconds)
    return {kind: mean(times) for kind, times in seen.items()}


def seconds_left(left: Iterable[Job], jobs: Iterable[Job]) -> float | None:
    """Seconds of those ``left`` of ``jobs``, one after another; None before one of each of their kinds is done."""
    known = estimates(jobs)
    seconds = sum(known.get(job.kind, math.nan) for job in left)
    return None if math.isnan(seconds) else seconds


def table(study: Study, jobs: list[Job]) -> Table:
    """A line for each kind of job; a time only where one of its kind is done."""
    known, rows = estimates(jobs), []
    for kind in dict.fromkeys(job.kind for job in jobs):
        own = [job for job in jobs if job.kind == kind]
        sizes = [own[0].ranks, own[0].batch, own[0].batch * own[0].ranks]
        done = f"{sum(job.state == 'done' for job in own)} of {len(own)}"
        took = duration(known[kind]) if kind in known else "unknown"
        rows.append([*map(str, (*kind, *sizes)), done, took])
    columns = "data|method|scaling|#nodes|#ranks|#batch a rank|#global batch|#done|#a job takes"
    return tables.table(f"{study.name}: {study.title}", columns, rows)


def numbers(study: Study, jobs: list[Job]) -> dict[str, Any]:
    """The plan for programs; hours and cost are NaN where no job of a kind is done, cost also without a price."""
    known, left = estimates(jobs), [job for job in jobs if job.state != "done"]
    hours = sum(job.kind.nodes * known.get(job.kind, math.nan) for job in left) / 3600
    return {
        "study": study.name,
        "jobs": len(jobs),
        "done": len(jobs) - len(left),
        "left": len(left),
        "node_hours_left": hours,
        "cost_left": hours * (math.nan if study.price_per_node_hour is None else study.price_per_node_hour),
        "plan": [
            {"job": job.name, "nodes": job.kind.nodes, "ranks": job.ranks, "state": job.state, "run": job.arguments}
            for job in jobs
        ],
    }


def sentence(plan: dict[str, Any]) -> str:
    """How much is left, and what it costs, by the plan's numbers."""
    hours, cost = plan["node_hours_left"], plan["cost_left"]
    said = f"{count(plan['jobs'], 'job')}, {plan['done']} done"
    if not plan["left"]:
        return f"{said}; 'hpcfast scaling report' shows what they found"
    needed = "unknown until a job of each kind is done" if math.isnan(hours) else duration(3600 * hours)
    return f"{said}; {plan['left']} left: node time {needed}" + (
        "" if math.isnan(cost) else f", cost {tables.money(cost)}"
    )
