"""The rows of a page's tables. A run is given by its number, which chooses its colour too."""

import json
from collections.abc import Mapping, Sequence
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
    configs = [flat(yaml.safe_load(record.config.dump())) for record in records]
    rows = []
    for key in _keys(configs):
        values = [config.get(key, "–") for config in configs]
        rows.append((key, values, len(set(values)) > 1 and key not in NAMES_AND_PLACES))
    return rows


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
    return [(key.replace("_", " "), [column.get(key, "") for column in columns]) for key in _keys(columns)]


def times(records: list[Record]) -> list[tuple[str, list[str]]]:
    """Where the time of runs went: each part of the clock, as a share and in seconds, in each run that is finished."""
    columns = [dict((record.summary or {}).get("seconds", {})) for record in records]
    totals = [sum(column.values()) for column in columns]
    return [
        (key.replace("_", " "), [_share(column.get(key), total) for column, total in zip(columns, totals, strict=True)])
        for key in _keys(columns)
    ]


def _share(seconds: float | None, total: float) -> str:
    return "–" if seconds is None or not total else f"{100 * seconds / total:.1f} % ({duration(seconds)})"


def _keys(columns: Sequence[Mapping[str, Any]]) -> list[str]:
    """Keys of all ``columns``, each once, in their order."""
    return list(dict.fromkeys(key for column in columns for key in column))
