"""What came out of a study: one HTML page that needs nothing else, a Markdown file, a CSV table and the figures.

The words are in ``findings``, the numbers in ``cells`` and ``statistics``, the figures in ``figures``; the page has the
style of the page on runs (hpcfast/report/templates/style.css).
"""

import base64
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path

import jinja2

import hpcfast
from hpcfast.errors import UserError
from hpcfast.report import format
from hpcfast.runs.files import save_text, write_atomically
from hpcfast.scaling import collect, findings
from hpcfast.scaling.cells import Cell, cells
from hpcfast.scaling.figures import SHARES, Picture, pictures
from hpcfast.scaling.rows import Row
from hpcfast.scaling.study import Study

MARK = '<meta name="generator" content="hpcfast scaling report">'
"""Says that a folder's report.html is ours and may be replaced."""


@dataclass(frozen=True)
class Part:
    """All about one data set."""

    data: str
    cells: list[Cell]
    pictures: list[Picture]

    @property
    def duels(self) -> list[findings.Duel]:
        return findings.duels(self.cells)


def write(study: Study, rows: list[Row], out: Path | None = None) -> list[Path]:
    """Write report.html, report.md, results.csv and figures/ into ``out``, by default the study's folder.

    Returns:
        The files, the page first.

    Raises:
        UserError: the folder cannot be written, or ``out`` holds a report.html that is not ours.
    """
    folder = out or study.folder
    try:
        _refuse_strangers(folder)
        parts = [
            Part(data, own, pictures(data, own))
            for data, group in groupby(cells(rows), lambda cell: cell.key[0])
            for own in [list(group)]
        ]
        written = [folder / "report.html", folder / "report.md", folder / "results.csv"]
        (folder / "figures").mkdir(parents=True, exist_ok=True)
        for picture in (each for part in parts for each in part.pictures):
            written += [folder / "figures" / f"{picture.name}.{kind}" for kind in ("svg", "png")]
            save_text(written[-2], picture.light)
            write_atomically(written[-1], lambda part, png=picture.png: part.write_bytes(png))  # type: ignore[misc]
        collect.write_csv(folder / "results.csv", rows)
        save_text(folder / "report.md", render("study.md.j2", study, rows, parts))
        save_text(folder / "report.html", render("study.html.j2", study, rows, parts))
    except OSError as error:
        raise UserError(f"{folder} cannot be written ({error}); give --out a folder you may write") from None
    return written


def render(template: str, study: Study, rows: list[Row], parts: list[Part]) -> str:
    """The page, or the Markdown file."""
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader("hpcfast.scaling"), jinja2.PackageLoader("hpcfast.report")]),
        autoescape=template.endswith("html.j2"),  # a job, a host or an error may have any name
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(
        percent=format.percent, duration=format.duration, moment=format.moment, number=findings.number,
        embedded=embedded, pipes=lambda text: str(text).replace("|", "\\|").replace("\n", " "),
    )  # fmt: skip
    every = [cell for part in parts for cell in part.cells]
    return environment.get_template(template).render(
        mark=MARK,
        version=hpcfast.__version__,
        now=datetime.now(UTC).timestamp(),
        study=study,
        parts=parts,
        rows=rows,
        warnings=findings.warnings(every),
        environment=sorted(environments(rows).items()),
        shares=SHARES,
        say=findings,
    )


def environments(rows: Iterable[Row]) -> Counter[tuple[str, str]]:
    """Runs by hardware and versions."""
    return Counter((row.hardware or "unknown", row.versions or "unknown") for row in rows if row.status != "missing")


def embedded(svg: str) -> str:
    """An SVG file as a URL that holds it."""
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"


def _refuse_strangers(folder: Path) -> None:
    page = folder / "report.html"
    if page.is_file() and MARK not in page.read_text(errors="replace")[:1000]:
        raise UserError(f"{page} is no report on a study of ours; give another --out")
