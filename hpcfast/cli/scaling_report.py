"""``hpcfast scaling report`` and ``compare``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hpcfast.cli import options
from hpcfast.errors import UserError

if TYPE_CHECKING:
    from hpcfast.scaling.rows import Row

File = Annotated[Path, typer.Argument(help="YAML file, e.g. configs/studies/small.yaml", show_default=False)]
Table = Annotated[Path, typer.Argument(help="a study's folder, or its results.csv", show_default=False)]


def report(
    study: File,
    out: Annotated[Path | None, typer.Option(help="folder to write into; default: studies/NAME")] = None,
) -> None:
    """Say what came out of STUDY so far: an HTML page, Markdown, a CSV table and figures."""
    from hpcfast.scaling import cells, collect, findings
    from hpcfast.scaling import report as reporting
    from hpcfast.scaling import study as studies

    read = studies.load(study)
    rows = collect.rows(read)
    if all(row.status == "missing" for row in rows):
        raise UserError(f"nothing of {study} has run yet; start it with 'hpcfast scaling run {study}'")
    written = reporting.write(read, rows, out)
    known = cells.cells(rows)
    for data in dict.fromkeys(row.data for row in rows):
        print(f"{data}: {findings.answer([cell for cell in known if cell.key[0] == data])}")
    for warning in findings.warnings(known):
        print(f"warning: {warning}")
    print(f"page: {written[0]}")


def compare(a: Table, b: Table, json: options.Json = None) -> None:
    """Tell whether study B reached its targets faster than study A, cell by cell, or whether it may be chance."""
    from hpcfast.runs.progress import console
    from hpcfast.scaling import compare as comparing

    found = comparing.compare(_read(a), _read(b))
    if not found:
        raise UserError(f"{a} and {b} have no cell in common: none of the same data, method, scaling and nodes")
    console(140).print(comparing.table(found, str(a), str(b)))
    options.write_json(json, {"cells": comparing.numbers(found)})


def _read(path: Path) -> "list[Row]":
    from hpcfast.scaling import collect

    return collect.read_csv(path / "results.csv" if path.is_dir() else path)
