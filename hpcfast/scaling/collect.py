"""The table of a study: a row a job with what its run directory tells, of which reports and predictions are made."""

import csv
import io
import math
from collections import Counter
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from hpcfast.errors import UserError
from hpcfast.runs import results
from hpcfast.runs.files import save_text
from hpcfast.runs.reading import read_yaml
from hpcfast.scaling.jobs import Job, Kind, jobs, tail
from hpcfast.scaling.study import Scaling, Study

Status = Literal["converged", "not converged", "crashed", "unfinished", "missing"]
NOTES = {"unfinished": "it was stopped; 'hpcfast scaling run' takes care of it", "missing": "not started yet"}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One job: what it was to do, how it ended and, if it got so far, what it measured. Times are in seconds."""

    job: str
    """Its name, which is its run directory's: ``digits-fast-strong-2-seed0``."""
    data: str
    method: str
    scaling: Scaling
    nodes: int
    ranks: int
    seed: int
    status: Status
    note: str = ""
    """Why it has no time to robust accuracy."""
    global_batch: int
    target: float
    ttra: float | None = None
    """Time to robust accuracy: from the run's first start to the target met, if the confirmation agreed."""
    epochs: float | None = None
    """Until training ended: at the target, or at the run's end."""
    every: int | None = None
    """Epochs from one look at the target to the next."""
    steps: int | None = None
    images: int | None = None
    """Trained on, over all ranks, those of steps that were undone too."""
    train_seconds: float | None = None
    images_per_second: float | None = None
    clean_accuracy: float | None = None
    robust_accuracy: float | None = None
    """Under the monitor's attack, when training ended."""
    confirmed: dict[str, float] = field(default_factory=dict)
    """Robust accuracy by attack, off the clock."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Of the clock, on rank 0, by its PARTS; they add up to its reading when training ended."""
    noise_scale: float | None = None
    """Gradient noise scale (McCandlish et al. 2018), images."""
    joules: float | None = None
    """Over all nodes; None where nothing measures it."""
    slots: int | None = None
    """Ranks that find a GPU, or cores for their threads, of their own."""
    hardware: str = ""
    versions: str = ""
    stragglers: tuple[str, ...] = ()
    """``rank 3 on n2: 1.4 times the median step``."""

    @property
    def kind(self) -> Kind:
        return Kind(self.data, self.method, self.scaling, self.nodes)

    @property
    def done(self) -> bool:
        """Whether it trained to its end."""
        return self.status in ("converged", "not converged")

    @property
    def time(self) -> float:
        """Seconds to robust accuracy; infinite where it was not reached."""
        return math.inf if self.ttra is None or self.status != "converged" else self.ttra

    @property
    def shares(self) -> bool:
        """Whether its ranks had to share cores or GPUs: its speed then says nothing of ranks that have their own."""
        return self.slots is not None and self.ranks > self.slots


def rows(study: Study) -> list[Row]:
    """What is known of each job, in the order of the plan."""
    return [row(job) for job in jobs(study)]


def row(job: Job) -> Row:
    """What is known of ``job``.

    Raises:
        UserError: its summary is damaged, or of a run on other ranks.
    """
    state, path = job.state, job.folder / "summary.json"
    known: dict[str, Any] = {"job": job.name, **job.kind._asdict(), "ranks": job.ranks, "seed": job.seed}
    known |= {"global_batch": job.batch * job.ranks, "target": job.of.target}
    if state != "done":
        note = NOTES.get(state) or tail(job.log) or f"it said nothing; see {job.log}"
        return Row(**known, status=state, note=note)
    summary = results.read(path, results.Summary, "remove it, and run the study again")
    if (ranks := summary.get("world_size")) != job.ranks:  # somebody may have run the job by hand
        raise UserError(
            f"{job.folder}: ranks were {ranks}, planned are {job.ranks}; move it away, and run the study again"
        )
    known |= _measured(summary)
    known["every"] = read_yaml(job.folder / "config.yaml").get("evaluation", {}).get("every")
    if known["ttra"] is not None:
        return Row(**known, status="converged")
    if confirmed := known["confirmed"]:
        name, least = min(confirmed.items(), key=lambda item: item[1])
        note = f"not confirmed: {name} leaves {least:.3f} of {job.of.target:g}"
    else:
        reached = "unknown" if known["robust_accuracy"] is None else f"{known['robust_accuracy']:.3f}"
        note = f"target {job.of.target + job.of.margin:g} was not reached, robust accuracy {reached}"
    return Row(**known, status="not converged", note=note)


def _measured(summary: dict[str, Any]) -> dict[str, Any]:
    same = ("epochs", "steps", "images", "train_seconds", "clean_accuracy", "robust_accuracy")
    return {
        **{key: summary.get(key) for key in (*same, "noise_scale", "joules", "slots")},
        "ttra": summary.get("time_to_robust_accuracy_seconds"),
        "images_per_second": summary.get("train_images_per_second"),
        "confirmed": {_name(check["attack"]): check["robust_accuracy"] for check in summary.get("confirmation") or []},
        "seconds": {part: spent for part, spent in (summary.get("seconds") or {}).items() if spent is not None},
        "hardware": summary.get("hardware") or summary.get("device") or "",
        "versions": ", ".join(f"{name} {version}" for name, version in (summary.get("versions") or {}).items()),
        "stragglers": tuple(summary.get("stragglers") or ()),
    }


def _name(attack: dict[str, Any]) -> str:
    """``pgd-50 x 10``: its steps, and its restarts if there are several."""
    steps = f"-{attack['steps']}" if attack.get("steps") else ""
    return f"{attack['name']}{steps}" + (f" x {attack['restarts']}" if attack.get("restarts", 1) > 1 else "")


def counted(table: list[Row]) -> str:
    """``57 converged, 2 not converged, 1 crashed``."""
    return ", ".join(f"{n} {status}" for status, n in Counter(row.status for row in table).items())


def write_csv(path: Path, table: list[Row]) -> None:
    """Write a study's table, a line a job; what is not known is an empty cell, parts of ``stragglers`` are cut by ;."""
    order = [field.name for field in fields(Row)]
    lines = [_flat(row) for row in table]
    columns = sorted({key for line in lines for key in line}, key=lambda key: (order.index(key.split(".")[0]), key))
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_text(path, out.getvalue())


def _flat(row: Row) -> dict[str, Any]:
    """A column for each key of a dictionary: ``seconds.attack``."""
    values = asdict(row)
    parts = {f"{group}.{key}": value for group in ("confirmed", "seconds") for key, value in values.pop(group).items()}
    return {**values, **parts, "stragglers": "; ".join(row.stragglers)}
