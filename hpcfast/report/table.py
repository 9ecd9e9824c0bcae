"""Runs side by side in the terminal."""

from typing import Any

from rich.table import Table

from hpcfast.report.format import attack_in_words
from hpcfast.report.rows import times
from hpcfast.report.runs import Record
from hpcfast.runs.names import printable


def table(records: list[Record]) -> Table:
    """A row a run: method, accuracies with their 95 % intervals, speed and time; or how far it is."""
    attacks = sorted({attack_in_words(record.summary["attack"]) for record in records if record.summary})
    caption = f"robust: under {', '.join(attacks)}; in brackets: 95 % intervals" if attacks else None
    grid = Table(caption=caption, caption_justify="left")
    for heading in ("run", "trained with", "clean accuracy", "robust accuracy", "images", "images/s", "seconds"):
        grid.add_column(heading, justify="left" if heading in ("run", "trained with") else "right")
    for record in records:
        grid.add_row(printable(record.name), record.config.attack.name, *_numbers(record))
    return grid


def clock(records: list[Record]) -> Table:
    """A row a part of the clock, a column a run: where its time went."""
    grid = Table(caption="communication: waiting for other ranks; see docs/timeline.md", caption_justify="left")
    grid.add_column("time spent on")
    for record in records:
        grid.add_column(printable(record.name), justify="right")
    for part, shares in times(records):
        grid.add_row(part, *shares)
    return grid


def _numbers(record: Record) -> list[str]:
    summary = record.summary
    if summary is None:
        return [f"unfinished, {record.progress}"]
    return [
        _with_interval(summary, "clean_accuracy"),
        _with_interval(summary, "robust_accuracy"),
        str(summary["n_eval"]),
        f"{summary['train_images_per_second']:,.0f}",
        f"{summary['train_seconds']:.1f}",
    ]


def _with_interval(summary: dict[str, Any], key: str) -> str:
    low, high = summary["ci95"][key]
    return f"{summary[key]:.3f} [{low:.3f}, {high:.3f}]"
