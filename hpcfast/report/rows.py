"""The rows of a page's tables. A run is given by its number, which chooses its colour too."""

import json
from typing import Any

import yaml

from hpcfast.report.history import Moment
from hpcfast.report.runs import Record

NAMES_AND_PLACES = ("name", "runs")
"""Settings in which any two runs differ."""


def evaluations(records: list[Record]) -> list[tuple[int, str, dict[str, Any]]]:
    """(run, name, result) of the evaluation after training, and of those by ``hpcfast eval``."""
    return [
        (i, name, result)
        for i, record in enumerate(records)
        for name, result in [("after training", record.summary), *record.evaluations.items()]
        if result
    ]


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


def _keys(columns: list[dict[str, str]]) -> list[str]:
    """Keys of all ``columns``, each once, in their order."""
    return list(dict.fromkeys(key for column in columns for key in column))
