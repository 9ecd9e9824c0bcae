"""``hpcfast scaling check``."""

from pathlib import Path
from typing import Annotated

import typer

from hpcfast.errors import UserError


def check(
    runs: Annotated[list[Path], typer.Argument(help="directories of finished runs", show_default=False)],
    mllog: Annotated[Path | None, typer.Option(help="also write the log of one run in MLPerf's form")] = None,
) -> None:
    """Prove the logs of RUNS: complete, possible, and in agreement with their summaries."""
    from hpcfast.runs.check import check
    from hpcfast.runs.files import save_text
    from hpcfast.runs.mlperf import text

    if mllog and len(runs) > 1:
        raise UserError(f"--mllog takes one run, not {len(runs)}; call it for each")
    if mllog and mllog.exists():
        raise UserError(f"--mllog {mllog} exists; remove it or give another file")
    sound, faults = [], []
    for run in runs:
        try:
            sound.append(check(run))
        except UserError as error:
            faults.append(str(error))
    for each in sound:
        print(each)
    if faults:
        raise UserError("\n".join(faults))
    if mllog:
        try:
            mllog.parent.mkdir(parents=True, exist_ok=True)
            save_text(mllog, text(sound[0].events, sound[0].converged))
        except OSError as error:
            raise UserError(f"--mllog {mllog} cannot be written: {error}") from None
