"""Whether the log of a run can be believed: complete, possible, and in agreement with its summary."""

import json
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import yaml

from hpcfast.errors import UserError
from hpcfast.runs import ettr
from hpcfast.runs.check.rules import ROUNDING, Rules
from hpcfast.runs.events import Event, read_numbered

SLACK = 1.0
"""Seconds between a reading of the clock and the line that tells of it."""
ACCURACIES = ("clean_accuracy", "robust_accuracy")


@dataclass(frozen=True)
class Sound:
    """A finished run whose log holds."""

    run: Path
    events: list[Event]
    summary: dict[str, Any]

    @property
    def converged(self) -> bool:
        """Whether it has a time to robust accuracy."""
        return self.summary["time_to_robust_accuracy_seconds"] is not None

    def __str__(self) -> str:
        counts = Counter(event.key for event in self.events)
        told = f"{self.run}: sound: {self.events[-1].epoch:g} epochs, {self.events[-1].step} steps"
        told += f", requeues: {counts['requeue']}, rollbacks: {counts['rollback']}"
        if self.converged:
            seconds, target = self.summary["time_to_robust_accuracy_seconds"], self.summary["target"]
            return f"{told}; robust accuracy {target:g} after {seconds:,.1f} s, confirmed"
        return f"{told}; {'no target' if self.summary['target'] is None else 'not converged'}"


def check(run: Path) -> Sound:
    """Read the log of the finished run in the folder ``run``.

    Raises:
        UserError: it is no run, or its log is incomplete or impossible: a line for each fault.
    """
    log, summary = run / "events.jsonl", run / "summary.json"
    if not log.is_file() or not (run / "config.yaml").is_file():
        raise UserError(f"{run} is no run directory: it has no config.yaml or no events.jsonl")
    try:
        rules = Rules(yaml.safe_load((run / "config.yaml").read_text()))
        events, faults = read_numbered(log)
        for event in events:
            rules.look(event)
        lines = [f"{log}:{line}: {what}" for line, what in sorted([*faults, *rules.faults], key=itemgetter(0))]
        said: dict[str, Any] = json.loads(summary.read_text()) if summary.is_file() else {}
        if not events or events[-1].key != "run_stop" or not said:
            lines.append(f"{run} is unfinished: it has no run_stop at the log's end, or no summary.json; train it on")
        elif not lines:
            lines = [f"{summary}: {what}" for what in _contradictions(said, rules, events)]
    except (KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{run}: config.yaml or summary.json is damaged or of another version ({error!r})") from None
    if lines:
        raise UserError("\n".join(lines))
    return Sound(run, events, said)


def _contradictions(summary: dict[str, Any], rules: Rules, events: list[Event]) -> Iterator[str]:
    """What ``summary.json`` says otherwise than the ``events``, which the ``rules`` have seen."""
    first, start, end, reached = rules.first, rules.start, rules.now, rules.reached
    if not (first and start and end):
        return  # such a log has been refused
    ranks = start.value["world_size"]
    expected = {"epochs": end.epoch, "steps": end.step, "world_size": ranks, "target": rules.target}
    if rules.rank_batch:
        expected |= {"global_batch": rules.rank_batch * ranks, "images": rules.images}
    for purpose, value in rules.measured:
        if purpose == "final":
            expected |= {key: value[key] for key in ACCURACIES}
    expected["confirmation"] = [value for purpose, value in rules.measured if purpose == "confirm"]
    times = {"wall_seconds": end.time - first.time, "target_reached_seconds": reached and reached.time - first.time}
    confirmation = [{key: each[key] for key in ("attack", *ACCURACIES)} for each in summary["confirmation"]]
    said = summary | {"confirmation": confirmation}
    for key, value in (expected | times).items():
        if not _same(said[key], value, SLACK if key in times else ROUNDING):
            yield f"{key} is {said[key]}, but the log says {value}"
    said_ratio, ratio = summary["ettr"]["ratio"], ettr.account([vars(event) for event in events]).ratio
    if not _same(said_ratio, ratio, ROUNDING):
        yield f"ettr is {said_ratio}, but the log says {ratio}"
    confirmed = rules.target is not None and all(each["robust_accuracy"] >= rules.target for each in confirmation)
    seconds = summary["target_reached_seconds"] if confirmed else None
    if summary["time_to_robust_accuracy_seconds"] != seconds:
        yield f"time_to_robust_accuracy_seconds is {summary['time_to_robust_accuracy_seconds']}, not {seconds}"


def _same(one: Any, other: Any, tolerance: float) -> bool:
    numbers = isinstance(one, int | float) and isinstance(other, int | float)
    return math.isclose(one, other, rel_tol=0, abs_tol=tolerance) if numbers else one == other
