"""One HTML file that holds a whole report: no script, style, font or image from anywhere else."""

import base64
from datetime import UTC, datetime
from pathlib import Path

import jinja2

import hpcfast
from hpcfast.errors import UserError
from hpcfast.report import charts, curves, format, rows
from hpcfast.report.runs import Record
from hpcfast.runs import files

MARK = '<meta name="generator" content="hpcfast report">'
"""Marks a file as a report, which may be replaced."""


def write(records: list[Record], path: Path, overwrite: bool = False) -> None:
    """Write the page to ``path``; a report that is there already is replaced.

    Raises:
        UserError: it cannot be written, or another file is there and ``overwrite`` is false.
    """
    try:
        if not overwrite and path.is_file() and MARK not in path.read_text(errors="replace")[:1000]:
            raise UserError(f"{path} is not a report of hpcfast; give another --out, or --overwrite to replace it")
        files.save_text(path, render(records))
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error}); give --out a file in a folder you may write") from None


def render(records: list[Record]) -> str:
    """The page."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("hpcfast.report"),
        autoescape=True,  # a run, a class or a file may have any name
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(
        percent=format.percent, attack=format.attack_in_words, threat=format.threat, duration=format.duration,
        moment=format.moment,
    )  # fmt: skip
    return environment.get_template("report.html.j2").render(
        mark=MARK,
        marker=charts.marker,
        version=hpcfast.__version__,
        now=datetime.now(UTC).timestamp(),
        records=records,
        over_epochs=curves.over_epochs(records),
        over_eps=curves.over_eps(records),
        evaluations=rows.evaluations(records),
        alignments=rows.alignments(records),
        settings=rows.settings(records),
        environment=rows.environment(records),
        times=rows.times(records),
        timeline=rows.timeline(records),
        pictures=[
            (f"{path.name} of {record.name}", base64.b64encode(path.read_bytes()).decode())
            for record in records
            for path in record.figures
        ],
    )
