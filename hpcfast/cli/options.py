"""Arguments that several commands share."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

Config = Annotated[Path, typer.Argument(help="YAML file, e.g. configs/digits_l2.yaml", show_default=False)]
Overrides = Annotated[list[str] | None, typer.Argument(help="settings to change, e.g. epochs=10 threat.eps=8/255")]
Json = Annotated[Path | None, typer.Option("--json", help="also write the numbers to this file")]


def write_json(path: Path | None, numbers: Any) -> None:
    """Write what a command reports to the file given with ``--json``.

    Raises:
        UserError: the file cannot be written.
    """
    from hpcfast.errors import UserError
    from hpcfast.runs.files import save_text

    if path:
        try:
            write = save_text if path.is_file() or not path.exists() else Path.write_text  # /dev/stdout is none
            write(path, json.dumps(numbers, indent=1) + "\n")
        except OSError as error:
            raise UserError(f"--json {path} cannot be written: {error}") from None
