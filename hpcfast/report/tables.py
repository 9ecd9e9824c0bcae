"""The tables of a report: the terminal prints some, the page shows all."""

import json
from typing import Any

import yaml

from hpcfast.report.format import (
    UNKNOWN,
    Table,
    attack_in_words,
    duration,
    moment,
    percent,
    threat_in_words,
    with_interval,
)
from hpcfast.report.runs import Record
from hpcfast.report.verdict import strongest

MEASURED = ("clean accuracy", "robust accuracy", "images")
WORST, BEST = 10, 3
"""Classes, or pairs of them, that are shown of many."""
Columns = list[dict[str, str]]
"""What each run has under each key."""


def results(records: list[Record]) -> Table:
    """A row a run: method, accuracies under its strongest attack, speed and time; or how far it is."""
    rows: list[tuple[str, ...]] = []
    found = [strongest(record) for record in records]
    threats = {threat_in_words(each["attack"]) for each in found if each}
    attacks = {attack_in_words(each["attack"]) for each in found if each}
    several = len(attacks) > 1
    for record, best in zip(records, found, strict=True):
        summary, words = record.summary, (record.name, record.trained_with)
        if summary is None or best is None:
            rows.append((*words, f"unfinished, {record.progress}"))
            continue
        under = (attack_in_words(best["attack"], len(threats) > 1),) if several else ()
        speed, training, wall = (summary[key] for key in ("train_images_per_second", "train_seconds", "wall_seconds"))
        rows.append((*words, *_accuracies(best), *under, f"{speed:,.0f}", duration(training), duration(wall)))
    where = ", ".join(["the strongest attack on file", *(threats if len(threats) == 1 else ())])
    where = where if several else "".join(attacks)
    caption = f"robust: under {where}; in brackets: 95 % intervals" if attacks else ""
    headings = ("run", "trained with", *MEASURED, *(["under"] if several else []), "images/s", "training", "wall clock")
    return Table("Results", headings, rows, "llrrrlrrr" if several else "llrrrrrr", caption)


def evaluations(records: list[Record]) -> Table:
    """A row for the evaluation after training, and for each other that is kept."""
    rows = []
    for record in records:
        kept = record.evaluations
        last = record.summary or {}
        same = ("attack", "n_eval", "clean_accuracy", "robust_accuracy")  # training keeps its last evaluation too
        if last and not any(all(last[key] == result.get(key) for key in same) for result in kept.values()):
            # An evaluation's seconds are those of the evaluation; a summary's are those of the run.
            kept = {"after training": {k: v for k, v in last.items() if k != "seconds"}, **kept}
        for name, result in kept.items():
            time = duration(result["seconds"]) if "seconds" in result else ""
            rows.append((record.name, name, attack_in_words(result["attack"]), *_accuracies(result), time))
    headings = ("run", "evaluation", "attack", *MEASURED, "time")
    return Table("Evaluations", headings, rows, "lllrrrr")


def by_class(records: list[Record]) -> Table:
    """Each class under a run's strongest attack; of many the worst and the best, by robust accuracy."""
    rows: list[tuple[str, ...]] = []
    for record in records:
        found = [each for each in (strongest(record) or {}).get("classes") or [] if each.get("ci95")]
        ordered = sorted(found, key=lambda each: (each["robust_accuracy"] or 0.0, each["name"]))
        few = len(ordered) <= WORST + BEST
        for each in ordered if few else [*ordered[:WORST], *ordered[-BEST:]]:
            pair = (with_interval(each[key] or 0.0, each["ci95"][key]) for key in ("clean_accuracy", "robust_accuracy"))
            rows.append((record.name, each["name"], *pair, f"{each['images']:,}"))
    caption = (
        f"under the strongest attack on file; of more than {WORST + BEST} classes the {WORST} worst and {BEST} best"
    )
    return Table("Classes", ("run", "class", *MEASURED), rows, "llrrr", caption)


def confusion(records: list[Record]) -> Table:
    """What images are taken for most often under a run's strongest attack."""
    rows = [
        (record.name, pair["class"], pair["taken_for"], f"{pair['clean']:,}", f"{pair['attacked']:,}")
        for record in records
        for pair in ((strongest(record) or {}).get("confusion") or [])[:WORST]
    ]
    headings = ("run", "class", "taken for", "images as they are", "attacked")
    caption = f"what images are taken for instead, as they are and under that attack: the {WORST} most frequent pairs"
    return Table("Taken for another class", headings, rows, "lllrr", caption)


def _accuracies(result: dict[str, Any]) -> tuple[str, ...]:
    pair = (with_interval(result[key], result["ci95"][key]) for key in ("clean_accuracy", "robust_accuracy"))
    return (*pair, f"{result['n_eval']:,}")


def alignment(records: list[Record]) -> Table:
    """What ``hpcfast explain`` has measured."""
    columns: Columns = [
        {name.replace("_", " "): with_interval(found["mean"], found["ci95"]) for name, found in measured.items()}
        for measured in (record.explanation.get("alignment", {}) for record in records)
    ]
    return _side_by_side("Alignment of gradients with", records, columns)


def times(records: list[Record]) -> Table:
    """A row a part of the clock: where the time of each finished run went."""
    columns: Columns = []
    for record in records:
        clock = (record.summary or {}).get("seconds") or {}
        shares = {
            part: f"{percent(spent / (sum(clock.values()) or 1))} ({duration(spent)})" for part, spent in clock.items()
        }
        columns.append({part.replace("_", " "): share for part, share in shares.items()})
    caption = "communication: waiting for other ranks; see docs/timeline.md"
    return _side_by_side("Time spent on", records, columns, caption)


def effective(record: Record) -> str:
    """How much of the wall time so far has trained the network, in a sentence."""
    account = record.account
    trained = f"{percent(account.ratio)} of {duration(account.wall)} trained the network (ETTR)"
    spent = sorted(((seconds, part) for part, seconds in account.seconds.items()), reverse=True)
    rest = [f"{part} {percent(seconds / account.wall)}" for seconds, part in spent if seconds >= account.wall / 1000]
    return ", ".join([f"{record.name}: {trained}", *(words for words in rest if not words.startswith("training"))])


def environment(records: list[Record]) -> Table:
    """Where runs were trained: what the summary says, else what the run said when it started."""
    columns: Columns = []
    for record in records:
        known: dict[str, Any] = record.summary or record.history.start
        values = {key: known[key] for key in ("device", "world_size", "precision") if key in known}
        values |= known.get("versions", {})
        columns.append({key.replace("_", " "): str(value) for key, value in values.items()})
    return _side_by_side("Environment", records, columns)


def settings(records: list[Record]) -> list[Table]:
    """Settings as they are written on the command line: where runs differ, and all."""
    columns: Columns = [_flat(yaml.safe_load(record.config.dump())) for record in records]
    every = _side_by_side("All settings", records, columns)
    differ = [row for row in every.rows if len(set(row[1:])) > 1 and row[0] not in ("name", "runs")]
    return [_side_by_side("Settings that differ", records, columns)._replace(rows=differ), every]


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as ``group.key: value``."""
    found: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, dict) and value:
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value if isinstance(value, str) else json.dumps(value)
    return found


def timeline(records: list[Record]) -> Table:
    """What happened to the runs, in order of time."""
    moments = sorted((each.time, record.name, each) for record in records for each in record.history.timeline)
    rows = [(moment(at), name, m.what, m.detail, f"{m.epoch:.4g}", str(m.step)) for at, name, m in moments]
    return Table("Timeline", ("time", "run", "event", "details", "epoch", "step"), rows, "llllrr")


def _side_by_side(title: str, records: list[Record], columns: Columns, caption: str = "") -> Table:
    """A row for each key of any of the ``columns``, in their order; a column a run."""
    keys = dict.fromkeys(key for column in columns for key in column)
    rows = [(key, *(column.get(key, UNKNOWN) for column in columns)) for key in keys]
    return Table(title, (title.lower(), *(record.name for record in records)), rows, "l" + "r" * len(records), caption)
