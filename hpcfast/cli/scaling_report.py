"""``hpcfast scaling report``."""

from pathlib import Path
from typing import Annotated

import typer

from hpcfast.cli.scaling_study import File, read
from hpcfast.errors import UserError


def report(
    study: File,
    out: Annotated[Path | None, typer.Option(help="folder to write into; default: studies/NAME")] = None,
) -> None:
    """Say what came out of STUDY so far: an HTML page, Markdown, a CSV table and figures."""
    from hpcfast.scaling import cells, collect, findings
    from hpcfast.scaling import report as reporting

    given, _ = read(study)
    rows = collect.rows(given)
    if all(row.status == "missing" for row in rows):
        raise UserError(f"nothing of {study} has run yet; start it with 'hpcfast scaling run {study}'")
    written = reporting.write(given, rows, out)
    for data, own in reporting.by_data(rows).items():
        print(f"{data}: {findings.answer(own)}")
    for warning in findings.warnings(cells.cells(rows)):
        print(f"warning: {warning}")
    print(f"page: {written[0]}")
