"""What several commands share: arguments, and how they begin and end."""

import gc
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from hpcfast import foreign

Config = Annotated[Path, typer.Argument(help="YAML file, e.g. configs/digits_l2.yaml", show_default=False)]
Overrides = Annotated[list[str] | None, typer.Argument(help="settings to change, e.g. epochs=10 threat.eps=8/255")]
Json = Annotated[Path | None, typer.Option("--json", help="also write the numbers to this file")]


def _trust(context: typer.Context, given: bool) -> bool:
    context.with_resource(foreign.trusting(given))
    return given


TrustCode = Annotated[
    bool,
    typer.Option("--trust-code", callback=_trust, help="run the code that the run names by import path, if it does"),
]


class _Command(typer.core.TyperCommand):
    """A command whose help ends with lines that stay whole, to be typed as they stand."""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        formatter.write(f"\n{self.epilog}\n")


def examples(*lines: str) -> dict[str, Any]:
    """What a command is registered with to have ``lines`` at the end of its help; Markdown for docs/reference."""
    text = "\n".join([f"Example{'s' if len(lines) > 1 else ''}:", "", *(f"    {line}" for line in lines)])
    return {"cls": _Command, "epilog": text}


@contextmanager
def quick_imports() -> Iterator[None]:
    """Look for no garbage while modules are imported, and never again among what they leave.

    Importing torch, DALI and timm makes a million objects, none of them garbage: going through them again and again
    is a fifth of the time, and later a pause in the middle of a step, for which all ranks wait.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()


@contextmanager
def blaming(option: str, setting: str) -> Iterator[None]:
    """Have errors name the ``option`` that was typed, not the ``setting`` of a run that it stands for here."""
    from hpcfast.errors import UserError

    try:
        yield
    except UserError as error:
        text = str(error)
        if not text.startswith((f"{setting}: ", f"{setting} ")):
            raise
        text = f"{option}{text.removeprefix(setting)}"
        raise UserError(text.replace(f"another {setting}", f"another {option}")) from None


def refuse_ranks(command: str) -> None:
    """Make sure that ``command`` was started once.

    Raises:
        UserError: a launcher did, and each rank would do all of it.
    """
    from hpcfast.distributed import launcher
    from hpcfast.errors import UserError

    if launcher.rank() is not None:
        raise UserError(f"{command} is no job of several ranks: start it without mpirun, horovodrun or srun -n")


def write_json(path: Path | None, numbers: Any) -> None:
    """Write what a command reports to the file given with ``--json``; null for what JSON has no number for.

    Raises:
        UserError: the file cannot be written.
    """
    from hpcfast.errors import UserError
    from hpcfast.runs.files import save_text

    if path:
        try:
            save_text(path, json.dumps(_finite(numbers), indent=1) + "\n")
        except OSError as error:
            raise UserError(f"--json {path} cannot be written: {error}") from None


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
