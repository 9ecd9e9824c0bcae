"""From run directories to the table of a study, and the table's file."""

import csv
import io
import json
from collections import Counter
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from hpcfast.errors import UserError
from hpcfast.runs.files import save_text
from hpcfast.scaling.folder import refuse_another
from hpcfast.scaling.jobs import Job, jobs, tail
from hpcfast.scaling.rows import Row
from hpcfast.scaling.study import Study

NESTED = ("confirmed", "seconds")
"""Fields that the file has a column for each key of, ``seconds.attack``."""
NOTES = {
    "unfinished": "it was stopped; 'hpcfast scaling run' takes care of it",
    "missing": "not started yet",
}


def rows(study: Study) -> list[Row]:
    """What is known of each job, in the order of the plan.

    Raises:
        UserError: the folder holds another study, or runs that are not those of the plan.
    """
    refuse_another(study)
    planned = jobs(study)
    if strangers := [f"\n  {job.folder}: {wrong}" for job in planned if (wrong := _mismatch(job))]:
        cure = "move them away, or give the study another name:"
        raise UserError(f"{study.folder} has runs of another study; {cure}{''.join(strangers)}")
    return [row(job) for job in planned]


def row(job: Job) -> Row:
    """What is known of ``job``.

    Raises:
        UserError: its summary is damaged.
    """
    state = job.state
    known: dict[str, Any] = {"job": job.name, **asdict(job.kind), "ranks": job.ranks, "seed": job.seed}
    known |= {"global_batch": job.batch * job.ranks, "target": job.of.target}
    if state == "done":
        summary = _summary(job)
        every = _config(job).get("evaluation", {}).get("every")
        return Row(**known, **_ending(job, summary), **_measured(summary), every=every)
    note = NOTES.get(state) or tail(job.log) or f"it said nothing; see {job.log}"
    return Row(**known, status=state, note=note)


def _config(job: Job) -> dict[str, Any]:
    file = job.folder / "config.yaml"
    return dict(yaml.safe_load(file.read_text())) if file.is_file() else {}


def _summary(job: Job) -> dict[str, Any]:
    try:
        return dict(json.loads((job.folder / "summary.json").read_text()))
    except ValueError as error:
        path = job.folder / "summary.json"
        raise UserError(f"{path} is damaged ({error}); remove it, and run the study again") from None


def _ending(job: Job, summary: dict[str, Any]) -> dict[str, Any]:
    ttra = summary.get("time_to_robust_accuracy_seconds")
    if ttra is not None:
        return {"status": "converged", "ttra": ttra}
    robust, goal = summary.get("robust_accuracy"), job.of.target + job.of.margin
    confirmed = _confirmed(summary)
    if not confirmed:
        reached = "unknown" if robust is None else f"{robust:.3f}"
        return {"status": "not converged", "note": f"target {goal:g} was not reached, robust accuracy {reached}"}
    name, least = min(confirmed.items(), key=lambda item: item[1])
    return {"status": "not converged", "note": f"not confirmed: {name} leaves {least:.3f} of {job.of.target:g}"}


def _measured(summary: dict[str, Any]) -> dict[str, Any]:
    versions = summary.get("versions") or {}
    seconds = {part: spent for part, spent in (summary.get("seconds") or {}).items() if spent is not None}
    same = ("epochs", "steps", "images", "train_seconds", "clean_accuracy", "robust_accuracy")
    return {
        **{key: summary.get(key) for key in (*same, "noise_scale", "joules", "slots")},
        "images_per_second": summary.get("train_images_per_second"),
        "confirmed": _confirmed(summary),
        "seconds": seconds,
        "hardware": summary.get("hardware") or summary.get("device") or "",
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "stragglers": tuple(summary.get("stragglers") or ()),
    }


def _confirmed(summary: dict[str, Any]) -> dict[str, float]:
    return {_name(check["attack"]): check["robust_accuracy"] for check in summary.get("confirmation") or []}


def _name(attack: dict[str, Any]) -> str:
    """``pgd-50 x 10``: its steps, and its restarts if there are several."""
    steps = f"-{attack['steps']}" if attack.get("steps") else ""
    return f"{attack['name']}{steps}" + (f" x {attack['restarts']}" if attack.get("restarts", 1) > 1 else "")


def _mismatch(job: Job) -> str:
    """What a run directory's configuration has other than the plan, or nothing."""
    there = _config(job)
    if job.state != "done" or not there:
        return ""
    found = {"seed": there.get("seed"), "target": there.get("target"), "batch": there["data"].get("batch_size")}
    found["ranks"] = _summary(job).get("world_size")
    wanted = {"seed": job.seed, "target": job.of.target, "batch": job.batch, "ranks": job.ranks}
    return ", ".join(f"{key} is {found[key]}, planned {wanted[key]}" for key in wanted if found[key] != wanted[key])


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


def read_csv(path: Path) -> list[Row]:
    """Read what :func:`write_csv` wrote.

    Raises:
        UserError: there is no such file, or it is no such table.
    """
    try:
        with path.open(newline="") as file:
            table = csv.DictReader(file)
            if "job" not in (table.fieldnames or ()):
                raise csv.Error("it has no column 'job'")
            return [TypeAdapter(Row).validate_python(_deep(line)) for line in table]
    except FileNotFoundError:
        raise UserError(f"no {path}; 'hpcfast scaling collect' writes it") from None
    except (OSError, ValidationError, csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no table of a study, as 'hpcfast scaling collect' writes it: {error}") from None


def _place(column: str) -> tuple[int, str]:
    names = [field.name for field in fields(Row)]
    return names.index(column.partition(".")[0]), column


def _flat(row: Row) -> dict[str, Any]:
    values = asdict(row)
    parts = {f"{group}.{key}": value for group in NESTED for key, value in values.pop(group).items()}
    return {**values, **parts, "stragglers": "; ".join(row.stragglers)}


def _deep(line: dict[str, str]) -> dict[str, Any]:
    given = {key: value for key, value in line.items() if value}
    values: dict[str, Any] = {key: value for key, value in given.items() if "." not in key}
    for group in NESTED:
        values[group] = {key[len(group) + 1 :]: value for key, value in given.items() if key.startswith(f"{group}.")}
    return {**values, "stragglers": tuple(line["stragglers"].split("; ")) if line.get("stragglers") else ()}
