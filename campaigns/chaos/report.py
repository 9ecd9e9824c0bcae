"""What a campaign came to: each fault joined with what was said of it and what it cost, by kind; and the checks."""

import hashlib
import json
import re
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from hpcfast.errors import UserError
from hpcfast.runs import events
from hpcfast.runs.check import check
from hpcfast.runs.ettr import account

from . import record
from .faults import KINDS
from .job import Job, processes

GAP = 3
"""Steps that take as many times as long as usual are time that a fault has cost."""
DAEMONS = ("slurmd", "slurmctld", "munged")


@dataclass(frozen=True)
class Outcome:
    """A fault, and what became of it."""

    kind: str
    cost: float
    """Seconds without a new step, from the fault to the next one, but for those that steps take."""
    noticed: float | None
    """Seconds until something was said of it; None if nothing was."""
    named: bool
    """Whether that names the rank or the host that it was done to."""
    line: str
    """What was said."""


def outcomes(folder: Path) -> list[Outcome]:
    """All faults of a campaign."""
    acts, said = (record.read(folder / f"{name}.jsonl") for name in ("acts", "said"))
    log = events.read(folder / "events.jsonl")
    lines = [(each["time"], each["line"]) for each in said] + [(each["time"], json.dumps(each)) for each in log]
    faults = [act for act in acts if act["kind"] == "fault"]
    ends = [fault["time"] for fault in faults[1:]] + [float("inf")]
    gaps = lost(log)
    return [_outcome(fault, end, sorted(lines), gaps) for fault, end in zip(faults, ends, strict=True)]


def _outcome(
    fault: dict[str, Any], end: float, lines: list[tuple[float, str]], gaps: list[tuple[float, float]]
) -> Outcome:
    begun, kind = fault["time"], KINDS[fault["text"]]
    cost = sum(seconds for when, seconds in gaps if begun < when < end)
    heard = [(when - begun, line) for when, line in lines if begun <= when < end] if kind.said else []
    anyone = kind.said.format(rank=r"\d+", node=r"n\d")
    right = kind.said.format(rank=fault["rank"], node=fault["node"])
    first = next(((seconds, line) for seconds, line in heard if re.search(anyone, line)), (None, ""))
    named = any(re.search(right, line) for _, line in heard)
    return Outcome(fault["text"], cost, first[0], named, first[1])


def lost(log: list[dict[str, Any]]) -> list[tuple[float, float]]:
    """When new steps were made that had taken far longer than usual, and by how many seconds."""
    reached, times = -1, []
    for event in log:
        if event["key"] == "train_loss" and event["step"] > reached:
            reached = event["step"]
            times.append(event["time"])
    took = [after - before for before, after in pairwise(times)]
    usual = statistics.median(took) if took else 0.0
    return [(when, seconds - usual) for when, seconds in zip(times[1:], took, strict=True) if seconds > GAP * usual]


def page(folders: Sequence[Path]) -> str:
    """The table by kind, over campaigns, and what their owner did and their checks found."""
    found = [outcome for folder in folders for outcome in outcomes(folder)]
    rows = [
        "| fault | n | noticed | names the culprit | said after, s | cost, s: median | most |",
        "|---|---|---|---|---|---|---|",
    ]
    rows += [
        _row(kind, [each for each in found if each.kind == kind])
        for kind in KINDS
        if any(each.kind == kind for each in found)
    ]
    return "\n".join([*rows, "", *(_sentence(folder) for folder in folders)])


def _row(kind: str, group: list[Outcome]) -> str:
    said = KINDS[kind].said
    seconds = [each.noticed for each in group if each.noticed is not None]
    noticed = f"{len(seconds)}" if said else "-"
    named = f"{sum(each.named for each in group)}" if "{" in said else "-"
    after = f"{statistics.median(seconds):.1f}" if seconds else "-"
    costs = [each.cost for each in group]
    return (
        f"| {kind} | {len(group)} | {noticed} | {named} | {after} | {statistics.median(costs):.1f} | {max(costs):.1f} |"
    )


def _sentence(folder: Path) -> str:
    acts = record.read(folder / "acts.jsonl")
    again = sum(act["kind"] == "submitted" for act in acts) - 2  # the first time, and the undisturbed run
    loads = [act["load"] for act in acts if act["kind"] == "fault"]
    over = next(act["time"] for act in acts if act["kind"] == "over")
    spent = account([event for event in events.read(folder / "events.jsonl") if event["time"] < over])
    parts = ", ".join(f"{part} {seconds:.0f}" for part, seconds in spent.seconds.items() if seconds >= 1)
    wrong = (folder / "checks.txt").read_text().splitlines()
    checks = "all checks hold" if not wrong else f"WRONG: {'; '.join(wrong)}"
    return (
        f"{folder.name}: ETTR {spent.ratio:.3f} of {spent.wall:.0f} s ({parts}); {len(loads)} faults, "
        f"{spent.starts} starts, submitted again {again} times; load of the machine "
        f"{statistics.median(loads or [0]):.0f}; {checks}"
    )


def examine(job: Job, quiet: Job) -> list[str]:
    """What is not as it must be, once both runs are finished: nothing may be left of any fault."""
    return [*_differences(job, quiet), *_damages(job), *_leftovers(job)]


def _differences(job: Job, quiet: Job) -> Iterator[str]:
    one, other = ((each.run / "model.safetensors").read_bytes() for each in (job, quiet))
    if one != other:
        yield "the weights differ from those of the undisturbed run"
    try:
        check(job.run)
    except UserError as error:
        yield f"the log cannot be believed: {error}"


def _damages(job: Job) -> Iterator[str]:
    checkpoints = sorted((job.run / "checkpoints").glob("step-*.pt"))
    if not checkpoints:
        yield "no checkpoint is left"
    for file in checkpoints:
        sum_ = Path(f"{file}.sha256").read_text().split()[0]
        if hashlib.sha256(file.read_bytes()).hexdigest() != sum_:
            yield f"{file.name} is damaged"
        else:
            torch.load(file, weights_only=True)


def _leftovers(job: Job) -> Iterator[str]:
    """Processes and files on nodes that nobody needs any more."""
    for process in processes(job.cluster):
        if process.name() not in DAEMONS:
            yield f"process {process.pid} is left: {' '.join(process.cmdline())[:100]}"
    path = job.cluster.path
    places = [path / "tmp", *(job.cluster.daemons / "tmp").iterdir()]
    files = [file for place in places for file in place.rglob("*") if file.is_file()]
    files += [*job.disk.rglob("*.part"), *job.disk.rglob(".lock-*"), *path.glob("*.failed"), *path.glob("*.saved")]
    yield from (f"file {file.relative_to(path)} is left" for file in files)


if __name__ == "__main__":
    print(page([Path(name) for name in sys.argv[1:]]))
