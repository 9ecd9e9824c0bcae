"""``hpcfast report``."""

from pathlib import Path
from typing import Annotated

import typer

from hpcfast.cli import options
from hpcfast.errors import UserError

EXAMPLES = options.examples(
    "hpcfast report runs/digits_l2",
    "hpcfast report runs/digits_l2_standard runs/digits_l2 --out digits.html",
)


def command(
    runs: Annotated[list[Path], typer.Argument(help="run directories, finished or not", show_default=False)],
    out: Annotated[Path | None, typer.Option(help="HTML file to write; default: report.html in the last run")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="replace the file --out even if it is not a report")
    ] = False,
    trust_code: options.TrustCode = False,
    json: options.Json = None,
) -> None:
    """Compare runs in a table and on an HTML page, and draw what fools each into the last one's figures/."""
    from hpcfast.explain import fooling
    from hpcfast.report import page, tables
    from hpcfast.report import runs as reading
    from hpcfast.runs.directory import RunDirectory
    from hpcfast.runs.names import in_lines, printable
    from hpcfast.runs.progress import console

    records = reading.read([RunDirectory(run) for run in runs])
    last = records[-1].run
    target = out or last.path / "report.html"
    drawn, why = last.figures / "adversarial.png", ""
    try:
        fooling.picture([record.run for record in records if record.summary], drawn)
    except UserError as error:  # the data may be elsewhere; numbers and curves are reported without them
        why = str(error)
    page.write(records, target, overwrite or out is None)
    screen = console(160)
    for table in (tables.results(records), tables.times(records)):
        if table.rows:
            screen.print(table._replace(title="").terminal())
    for record in records:
        if record.account.wall:
            screen.print(printable(tables.effective(record)))
    print(in_lines(f"no picture: {why}") if why else f"picture: {drawn}")
    print(f"page: {target}")
    summaries = [record.summary or {"status": "unfinished", "epochs": record.history.epoch} for record in records]
    options.write_json(json, {"runs": summaries, "picture": None if why else str(drawn), "page": str(target)})
