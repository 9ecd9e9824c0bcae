"""What came out of a study: one HTML page that needs nothing else, a Markdown file, a CSV table and the figures.

The words are in ``findings``, the numbers in ``cells`` and ``statistics``, tables and figures in files of these names;
the page has the style of the page on runs (hpcfast/report/templates/style.css).
"""

import base64
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path

import jinja2

import hpcfast
from hpcfast.errors import UserError
from hpcfast.report import format
from hpcfast.runs.files import save_text
from hpcfast.scaling import collect, findings, tables
from hpcfast.scaling.cells import Cell, cells
from hpcfast.scaling.figures import Picture, pictures
from hpcfast.scaling.collect import Row
from hpcfast.scaling.study import Study

MARK = '<meta name="generator" content="hpcfast scaling report">'
"""Says that a folder's report.html is ours and may be replaced."""


def write(study: Study, rows: list[Row], out: Path | None = None) -> list[Path]:
    """Write report.html, report.md, results.csv and figures/ into ``out``, by default the study's folder.

    Returns:
        The files, the page first.

    Raises:
        UserError: the folder cannot be written, or ``out`` holds a report.html that is not ours.
    """
    folder = out or study.folder
    try:
        page = folder / "report.html"
        if page.is_file() and MARK not in page.read_text(errors="replace")[:1000]:
            raise UserError(f"{page} is no report on a study of ours; give another --out")
        drawn = {data: pictures(data, own) for data, own in by_data(rows).items()}
        (folder / "figures").mkdir(parents=True, exist_ok=True)
        for picture in (each for of_data in drawn.values() for each in of_data):
            save_text(folder / "figures" / f"{picture.name}.svg", picture.svg)
        collect.write_csv(folder / "results.csv", rows)
        save_text(folder / "report.md", render("study.md.j2", study, rows, drawn))
        save_text(page, render("study.html.j2", study, rows, drawn))
    except OSError as error:
        raise UserError(f"{folder} cannot be written ({error}); give --out a folder you may write") from None
    return [page, folder / "report.md", folder / "results.csv"]


def render(template: str, study: Study, rows: list[Row], drawn: dict[str, list[Picture]]) -> str:
    """The page, or the Markdown file; ``drawn`` are the figures by data set."""
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader("hpcfast.scaling"), jinja2.PackageLoader("hpcfast.report")]),
        autoescape=template.endswith("html.j2"),  # a job, a host or an error may have any name
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(moment=format.moment, embedded=embedded)
    every, price = cells(rows), study.price_per_node_hour
    parts = [
        {
            "data": data,
            "asked": findings.asked(data, own),
            "answer": findings.answer(own),
            "tables": tables.of_data(own, price),
            "pictures": drawn[data],
        }
        for data, own in by_data(rows).items()
    ]
    return environment.get_template(template).render(
        mark=MARK,
        version=hpcfast.__version__,
        now=datetime.now(UTC).timestamp(),
        title=study.title,
        parts=parts,
        warnings=findings.warnings(every),
        tables=tables.of_runs(every),
    )


def by_data(rows: list[Row]) -> dict[str, list[Cell]]:
    """Cells by data set."""
    return {data: list(own) for data, own in groupby(cells(rows), lambda cell: cell.kind.data)}


def embedded(svg: str) -> str:
    """An SVG file as a URL that holds it."""
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"
