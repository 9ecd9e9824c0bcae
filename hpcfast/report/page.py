"""One HTML file that holds a whole report: no script, style, font or image from anywhere else."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from hpcfast.errors import UserError
from hpcfast.report import charts, html, pictures, tables, verdict
from hpcfast.report.charts import Chart
from hpcfast.report.format import Table
from hpcfast.report.pictures import Picture
from hpcfast.report.runs import Record
from hpcfast.runs import files, plot

MARK = '<meta name="generator" content="hpcfast report">'
"""Marks a file as a report, which may be replaced."""


class Bar(NamedTuple):
    """What a whole is divided into."""

    sentence: str
    parts: dict[str, float]
    """Shares by name."""


class Section(NamedTuple):
    """A part of the page, left out if it shows nothing."""

    title: str
    tables: list[Table]
    charts: Sequence[Chart] = ()
    pictures: Sequence[Picture] = ()
    bars: Sequence[Bar] = ()
    words: Mapping[str, str] = MappingProxyType({})
    """Words, and what they mean."""


def sections(records: list[Record]) -> list[Section]:
    """All that is on the page but the sentences above it."""
    found = [
        Section("Results", [tables.results(records)], words=verdict.explained(records)),
        Section("Training", [], charts.over_epochs(records)),
        Section("Evaluations", [tables.evaluations(records)], charts.over_eps(records)),
        Section("Classes", [tables.by_class(records), tables.confusion(records)]),
        Section("Pictures", [tables.alignment(records)], (), pictures.of_runs(records)),
        Section("Settings", tables.settings(records)),
        Section(
            "Time", [tables.times(records)], bars=[_effective(record) for record in records if record.account.wall]
        ),
        Section("Environment", [tables.environment(records)]),
        Section("Timeline", [tables.timeline(records)]),
    ]
    found = [section._replace(tables=[table for table in section.tables if table.rows]) for section in found]
    return [section for section in found if any(section[1:])]


def _effective(record: Record) -> Bar:
    wall = record.account.wall
    return Bar(tables.effective(record), {part: seconds / wall for part, seconds in record.account.seconds.items()})


def write(records: list[Record], path: Path, overwrite: bool = False) -> None:
    """Write the page to ``path``; a report that is there already is replaced.

    Raises:
        UserError: it cannot be written, or another file is there and ``overwrite`` is false.
    """
    try:
        if not overwrite and html.is_strange(path, MARK):
            raise UserError(f"{path} is not a report of hpcfast; give another --out, or --overwrite to replace it")
        files.save_text(path, render(records))
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error}); give --out a file in a folder you may write") from None


def render(records: list[Record]) -> str:
    """The page."""
    values = {"mark": MARK, "records": records, "colours": len(plot.RUNS), "sections": sections(records)}
    return html.fill("report.html.j2", found=[verdict.sentence(record) for record in records], **values)
