"""From run directories to the table of a study, and the table's file."""

import csv
import io
import json
from collections import Counter
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import yaml

from hpcfast.errors import UserError
from hpcfast.runs.files import save_text
from hpcfast.scaling.jobs import Job, jobs, tail
from hpcfast.scaling.rows import Row
from hpcfast.scaling.study import Study

NESTED = ("confirmed", "seconds")
"""Fields that the file has a column for each key of, ``seconds.attack``."""
NOTES = {"unfinished": "it was stopped; 'hpcfast scaling run' takes care of it", "missing": "not started yet"}


def rows(study: Study) -> list[Row]:
    """What is known of each job, in the order of the plan."""
    return [row(job) for job in jobs(study)]


def row(job: Job) -> Row:
    """What is known of ``job``.

    Raises:
        UserError: its summary is damaged, or of a run on other ranks.
    """
    state, path = job.state, job.folder / "summary.json"
    known: dict[str, Any] = {"job": job.name, **asdict(job.kind), "ranks": job.ranks, "seed": job.seed}
    known |= {"global_batch": job.batch * job.ranks, "target": job.of.target}
    if state != "done":
        note = NOTES.get(state) or tail(job.log) or f"it said nothing; see {job.log}"
        return Row(**known, status=state, note=note)
    try:
        summary = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); remove it, and run the study again") from None
    if (ranks := summary.get("world_size")) != job.ranks:  # somebody may have run the job by hand
        raise UserError(
            f"{job.folder}: ranks were {ranks}, planned are {job.ranks}; move it away, and run the study again"
        )
    config = yaml.safe_load((job.folder / "config.yaml").read_text())
    return Row(**known, **_ending(job, summary), **_measured(summary), every=config.get("evaluation", {}).get("every"))


def _ending(job: Job, summary: dict[str, Any]) -> dict[str, Any]:
    ttra = summary.get("time_to_robust_accuracy_seconds")
    if ttra is not None:
        return {"status": "converged", "ttra": ttra}
    robust, goal = summary.get("robust_accuracy"), job.of.target + job.of.margin
    if confirmed := _confirmed(summary):
        name, least = min(confirmed.items(), key=lambda item: item[1])
        note = f"not confirmed: {name} leaves {least:.3f} of {job.of.target:g}"
    else:
        reached = "unknown" if robust is None else f"{robust:.3f}"
        note = f"target {goal:g} was not reached, robust accuracy {reached}"
    return {"status": "not converged", "note": note}


def _measured(summary: dict[str, Any]) -> dict[str, Any]:
    same = ("epochs", "steps", "images", "train_seconds", "clean_accuracy", "robust_accuracy")
    return {
        **{key: summary.get(key) for key in (*same, "noise_scale", "joules", "slots")},
        "images_per_second": summary.get("train_images_per_second"),
        "confirmed": _confirmed(summary),
        "seconds": {part: spent for part, spent in (summary.get("seconds") or {}).items() if spent is not None},
        "hardware": summary.get("hardware") or summary.get("device") or "",
        "versions": ", ".join(f"{name} {version}" for name, version in (summary.get("versions") or {}).items()),
        "stragglers": tuple(summary.get("stragglers") or ()),
    }


def _confirmed(summary: dict[str, Any]) -> dict[str, float]:
    return {_name(check["attack"]): check["robust_accuracy"] for check in summary.get("confirmation") or []}


def _name(attack: dict[str, Any]) -> str:
    """``pgd-50 x 10``: its steps, and its restarts if there are several."""
    steps = f"-{attack['steps']}" if attack.get("steps") else ""
    return f"{attack['name']}{steps}" + (f" x {attack['restarts']}" if attack.get("restarts", 1) > 1 else "")


def counted(table: list[Row]) -> str:
    """``57 converged, 2 not converged, 1 crashed``."""
    return ", ".join(f"{n} {status}" for status, n in Counter(row.status for row in table).items())


def write_csv(path: Path, table: list[Row]) -> None:
    """Write a study's table, a line a job; what is not known is an empty cell, parts of ``stragglers`` are cut by ;."""
    lines = [_flat(row) for row in table]
    columns = sorted({key for line in lines for key in line}, key=_place)
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_text(path, out.getvalue())


def _place(column: str) -> tuple[int, str]:
    names = [field.name for field in fields(Row)]
    return names.index(column.partition(".")[0]), column


def _flat(row: Row) -> dict[str, Any]:
    values = asdict(row)
    parts = {f"{group}.{key}": value for group in NESTED for key, value in values.pop(group).items()}
    return {**values, **parts, "stragglers": "; ".join(row.stragglers)}
