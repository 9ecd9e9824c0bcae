"""Runs side by side in the terminal."""

from typing import Any

from rich.table import Table

from hpcfast.report.format import attack_in_words
from hpcfast.report.rows import times
from hpcfast.report.runs import Record
from hpcfast.runs import progress
from hpcfast.runs.names import printable

HEADINGS = ("run", "trained with", "clean accuracy", "robust accuracy", "images", "images/s", "seconds")


def table(records: list[Record]) -> Table:
    """A row a run: method, accuracies with their 95 % intervals, speed and time; or how far it is."""
    attacks = sorted({attack_in_words(record.summary["attack"]) for record in records if record.summary})
    caption = f"robust: under {', '.join(attacks)}; in brackets: 95 % intervals" if attacks else None
    rows = [(printable(record.name), record.config.attack.name, *_numbers(record)) for record in records]
    return progress.table(HEADINGS, rows, caption, left=2)


def clock(records: list[Record]) -> Table:
    """A row a part of the clock, a column a run: where its time went."""
    headings = ("time spent on", *(printable(record.name) for record in records))
    rows = [(part, *shares) for part, shares in times(records)]
    return progress.table(headings, rows, "communication: waiting for other ranks; see docs/timeline.md")


def _numbers(record: Record) -> list[str]:
    summary = record.summary
    if summary is None:
        return [f"unfinished, {record.progress}"]
    accuracies = [with_interval(summary[key], summary["ci95"][key]) for key in ("clean_accuracy", "robust_accuracy")]
    speed, seconds = summary["train_images_per_second"], summary["train_seconds"]
    return [*accuracies, str(summary["n_eval"]), f"{speed:,.0f}", f"{seconds:.1f}"]


def with_interval(value: float, interval: Any) -> str:
    """E.g. ``0.714 [0.690, 0.737]``."""
    low, high = interval
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"
