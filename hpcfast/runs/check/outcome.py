"""Whether a run's summary says what its log says."""

import math
from collections.abc import Iterator
from typing import Any

from hpcfast.runs.check.rules import Rules

SLACK = 1.0
"""Seconds between a reading of the clock and the line that tells of it."""


def contradictions(summary: dict[str, Any], rules: Rules) -> Iterator[str]:
    """What ``summary.json`` says otherwise than the ``rules`` that ended with run_stop.

    Raises:
        KeyError: a number is missing; another version wrote it.
    """
    terms, first, start, end = rules.terms, rules.first, rules.start, rules.now
    if not (first and start and end):
        return  # such a log has been refused
    expected = {"epochs": end.epoch, "steps": end.step, "world_size": start.value["world_size"], "target": terms.target}
    if terms.rank_batch:
        expected["global_batch"] = terms.rank_batch * start.value["world_size"]
        expected["images"] = rules.images
    found = [value for purpose, value in rules.measured if purpose == "final"]
    for value in found[-1:]:
        expected |= {key: value[key] for key in ("clean_accuracy", "robust_accuracy")}
    for key, value in expected.items():
        if not _same(summary[key], value):
            yield f"{key} is {summary[key]}, but the log says {value}"
    yield from _times(summary, rules, first.time, end.time)
    yield from _confirmation(summary, [value for purpose, value in rules.measured if purpose == "confirm"])


def _times(summary: dict[str, Any], rules: Rules, first: float, end: float) -> Iterator[str]:
    reached = rules.reached.time - first if rules.reached else None
    for key, seconds in (("wall_seconds", end - first), ("target_reached_seconds", reached)):
        said = summary[key]
        if (said is None) != (seconds is None) or (said is not None and abs(said - seconds) > SLACK):
            yield f"{key} is {said}, but the log says {seconds}"
    target = rules.terms.target
    confirmed = target is not None and all(each["robust_accuracy"] >= target for each in summary["confirmation"])
    expected = summary["target_reached_seconds"] if confirmed else None
    if summary["time_to_robust_accuracy_seconds"] != expected:
        yield f"time_to_robust_accuracy_seconds is {summary['time_to_robust_accuracy_seconds']}, not {expected}"


def _confirmation(summary: dict[str, Any], found: list[dict[str, Any]]) -> Iterator[str]:
    keys = ("attack", "clean_accuracy", "robust_accuracy")
    said = [{key: each[key] for key in keys} for each in summary["confirmation"]]
    if said != found:
        yield f"confirmation is {said}, but the log says {found}"


def _same(one: Any, other: Any) -> bool:
    numbers = isinstance(one, int | float) and isinstance(other, int | float)
    return math.isclose(one, other, rel_tol=0, abs_tol=2e-6) if numbers else one == other
