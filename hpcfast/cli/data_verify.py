"""``hpcfast data verify``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hpcfast.cli import options

if TYPE_CHECKING:
    from rich.table import Table

    from hpcfast.datasets.verify import Checked

REMEDIES = {"mend": "to be mended", "skip": "left out", "note": "none needed"}
EXAMPLES = 3


def command(
    data: Annotated[Path, typer.Argument(help="folder with train/ and val/, or a pack", show_default=False)],
    quick: Annotated[bool, typer.Option("--quick", help="only look at the first and last bytes of images")] = False,
    skips: Annotated[Path | None, typer.Option(help="list to write; default DATA/skips.txt")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="processes; default: all cores")] = None,
    json: options.Json = None,
) -> None:
    """Find images and folders that would spoil a run; list bad images, so that training leaves them out.

    Exits with 0 if nothing is wrong, with 2 if something is.
    """
    from hpcfast.data import skips as lists
    from hpcfast.datasets import verify
    from hpcfast.distributed import launcher
    from hpcfast.errors import UserError
    from hpcfast.runs.progress import Reporter, console

    if launcher.rank() is not None:  # each rank would do all of it
        raise UserError("data verify is no job of several ranks: start it without mpirun, horovodrun or srun -n")
    target = skips or data / lists.NAME
    known = verify.earlier(target) if data.is_dir() else {}
    with Reporter(visible=True) as reporter:
        task = reporter.task(f"verify {data}", None, "images")
        checked = verify.verify(data, quick, workers, known, task.update)
        task.close()
    verify.write_skips(target, checked.found)
    found = [each._asdict() for each in checked.found]
    options.write_json(json, {"data": str(data), "quick": quick, "images": checked.images, "found": found})
    if checked.found:
        console(140).print(_table(checked))
    bad, broken = len({each.name for each in checked.to("skip")}), checked.to("mend")
    if bad or broken:
        raise UserError(". ".join(_verdict(data, target, bad, len(broken), skips is not None)))
    print(f"{data}: {checked.images:,} images, nothing wrong")


def _verdict(data: Path, target: Path, bad: int, broken: int, elsewhere: bool) -> list[str]:
    """What the user has to know last."""
    parts = []
    if bad:
        setting = f" if told data.skips={target}" if elsewhere else ""
        parts.append(f"{data}: bad images: {bad:,}; {target} lists them, and training leaves them out{setting}")
    if broken:
        parts.append(f"{data}: faults to mend by hand: {broken:,}; the table names them")
    return parts


def _table(checked: Checked) -> Table:
    """A row a kind: how many there are, and the first of them."""
    from rich.table import Table
    from rich.text import Text

    from hpcfast.runs.names import printable

    grid = Table("found", "count", "remedy", "for instance")
    for remedy, word in REMEDIES.items():
        rows = checked.to(remedy)
        for kind in dict.fromkeys(each.kind for each in rows):
            some = [each for each in rows if each.kind == kind]
            first = "\n".join(printable(f"{each.name}: {each.reason}") for each in some[:EXAMPLES])
            shown = Text(first, overflow="fold")
            grid.add_row(kind, f"{len(some):,}", word, shown)
    return grid
