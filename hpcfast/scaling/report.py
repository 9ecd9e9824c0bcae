"""What came out of a study: one HTML page that needs nothing else, a Markdown file, a CSV table and the figures.

The words are in ``findings``, the numbers in ``cells`` and ``statistics``, tables and figures in files of these names;
the page has the frame and the style of the page on runs (hpcfast/report/templates).
"""

from itertools import groupby
from pathlib import Path

from hpcfast.errors import UserError
from hpcfast.report import html
from hpcfast.runs.files import save_text
from hpcfast.scaling import collect, findings, tables
from hpcfast.scaling.cells import Cell, cells
from hpcfast.scaling.figures import Picture, pictures
from hpcfast.scaling.study import Study

MARK = '<meta name="generator" content="hpcfast scaling report">'
"""Says that a folder's report.html is ours and may be replaced."""


def write(study: Study, rows: list[collect.Row], out: Path | None = None) -> list[Path]:
    """Write report.html, report.md, results.csv and figures/ into ``out``, by default the study's folder.

    Returns:
        The files, the page first.

    Raises:
        UserError: the folder cannot be written, or ``out`` holds a report.html that is not ours.
    """
    folder = out or study.folder
    page, markdown, table = (folder / name for name in ("report.html", "report.md", "results.csv"))
    try:
        if html.is_strange(page, MARK):
            raise UserError(f"{page} is no report on a study of ours; give another --out")
        drawn = {data: pictures(data, own) for data, own in by_data(rows).items()}
        (folder / "figures").mkdir(parents=True, exist_ok=True)
        for picture in (each for of_data in drawn.values() for each in of_data):
            save_text(folder / "figures" / f"{picture.name}.svg", picture.svg)
        collect.write_csv(table, rows)
        save_text(markdown, render("study.md.j2", study, rows, drawn))
        save_text(page, render("study.html.j2", study, rows, drawn))
    except OSError as error:
        raise UserError(f"{folder} cannot be written ({error}); give --out a folder you may write") from None
    return [page, markdown, table]


def render(template: str, study: Study, rows: list[collect.Row], drawn: dict[str, list[Picture]]) -> str:
    """The page, or the Markdown file; ``drawn`` are the figures by data set."""
    every = cells(rows)
    parts = [
        {
            "data": data,
            "asked": findings.asked(data, own),
            "answer": findings.answer(own),
            "tables": tables.of_data(own, study.price_per_node_hour),
            "pictures": drawn[data],
        }
        for data, own in by_data(rows).items()
    ]
    values = {"parts": parts, "warnings": findings.warnings(every), "tables": tables.of_runs(every)}
    return html.fill(template, "hpcfast.scaling", mark=MARK, title=study.title, **values)


def by_data(rows: list[collect.Row]) -> dict[str, list[Cell]]:
    """Cells by data set."""
    return {data: list(own) for data, own in groupby(cells(rows), lambda cell: cell.kind.data)}
