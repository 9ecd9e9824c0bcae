"""The rows of a page's tables. A run is given by its number, which chooses its colour too."""

import json
from typing import Any

import yaml

from hpcfast.report.format import duration
from hpcfast.report.history import Moment
from hpcfast.report.runs import Record

NAMES_AND_PLACES = ("name", "runs")
"""Settings in which any two runs differ."""


def evaluations(records: list[Record]) -> list[tuple[int, str, dict[str, Any]]]:
    """(run, name, result) of the evaluation after training, and of the others that are kept."""
    found = []
    for i, record in enumerate(records):
        kept = list(record.evaluations.items())
        if record.summary and not any(_same(record.summary, result) for _, result in kept):
            # An evaluation's seconds are those of the evaluation; a summary's are those of the run.
            found.append((i, "after training", {k: v for k, v in record.summary.items() if k != "seconds"}))
        found += [(i, name, result) for name, result in kept]
    return found


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two results are of one measurement: training keeps its last evaluation too."""
    return all(one.get(key) == other.get(key) for key in ("attack", "n_eval", "clean_accuracy", "robust_accuracy"))


def alignments(records: list[Record]) -> list[tuple[int, str, dict[str, Any]]]:
    """(run, measure, its mean, ci95 and n) as ``hpcfast explain`` has found them."""
    return [
        (i, measure.replace("_", " "), numbers)
        for i, record in enumerate(records)
        for measure, numbers in record.explanation.get("alignment", {}).items()
    ]


def timeline(records: list[Record]) -> list[tuple[int, Moment]]:
    """(run, what happened to it), in order of time."""
    moments = [(i, moment) for i, record in enumerate(records) for moment in record.history.timeline]
    return sorted(moments, key=lambda pair: pair[1].time)


def settings(records: list[Record]) -> list[tuple[str, list[str], bool]]:
    """Every setting, as it is written on the command line: its value in each run, and whether runs differ in it.

    A component has settings of its own: a run that uses another has none there, which is shown as ``–``.
    """
    rows = _side_by_side([flat(yaml.safe_load(record.config.dump())) for record in records])
    return [(key, values, len(set(values)) > 1 and key not in NAMES_AND_PLACES) for key, values in rows]


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as ``group.key: value``."""
    found: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, dict) and value:
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value if isinstance(value, str) else json.dumps(value)
    return found


def environment(records: list[Record]) -> list[tuple[str, list[str]]]:
    """Where runs were trained: what the summary says, else what the run said when it started."""
    columns = []
    for record in records:
        known: dict[str, Any] = record.summary or record.history.start
        chosen = {key: known[key] for key in ("device", "world_size", "precision") if key in known}
        columns.append({key: str(value) for key, value in (chosen | known.get("versions", {})).items()})
    return [(key.replace("_", " "), values) for key, values in _side_by_side(columns, missing="")]


def times(records: list[Record]) -> list[tuple[str, list[str]]]:
    """Where the time of runs went: each part of the clock, as a share and in seconds, in each run that is finished."""
    clocks = [(record.summary or {}).get("seconds", {}) for record in records]
    columns = [{part: _share(seconds, sum(clock.values())) for part, seconds in clock.items()} for clock in clocks]
    return [(key.replace("_", " "), values) for key, values in _side_by_side(columns)]


def _share(seconds: float, total: float) -> str:
    return f"{100 * seconds / total:.1f} % ({duration(seconds)})" if total else "–"


def _side_by_side(columns: list[dict[str, str]], missing: str = "–") -> list[tuple[str, list[str]]]:
    """A row for each key of any of the ``columns``, in their order."""
    keys = dict.fromkeys(key for column in columns for key in column)
    return [(key, [column.get(key, missing) for column in columns]) for key in keys]
