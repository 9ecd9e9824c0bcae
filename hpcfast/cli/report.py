"""``hpcfast report``."""

from pathlib import Path
from typing import Annotated

import typer

from hpcfast.cli import options


def command(
    runs: Annotated[list[Path], typer.Argument(help="run directories", show_default=False)],
    json: options.Json = None,
) -> None:
    """Compare finished runs in a table, and draw what fools each into the last one's figures/."""
    from rich.console import Console

    from hpcfast import report
    from hpcfast.rundir import RunDirectory

    directories = [RunDirectory(run) for run in runs]
    summaries = report.read(directories)
    target = directories[-1].figures / "adversarial.png"
    report.picture(directories, target)
    Console(width=None if Console().is_terminal else 140).print(report.table(directories, summaries))
    print(f"picture: {target}")
    options.write_json(json, {"runs": summaries, "picture": str(target)})
