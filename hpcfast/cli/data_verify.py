"""``hpcfast data verify``."""

from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hpcfast.cli import options

if TYPE_CHECKING:
    from hpcfast.datasets.verify import Found

REMEDIES = {"mend": "to be mended", "skip": "left out"}
EXAMPLES = 3


def command(
    data: Annotated[Path, typer.Argument(help="folder with train/ and val/, or a pack", show_default=False)],
    skips: Annotated[Path | None, typer.Option(help="list to write; default DATA/skips.txt")] = None,
    json: options.Json = None,
) -> None:
    """Find images and folders that would spoil a run; list bad images, so that training leaves them out.

    Exits with 0 if nothing is wrong, with 2 if something is.
    """
    from hpcfast.data import skips as lists
    from hpcfast.datasets import verify
    from hpcfast.errors import UserError
    from hpcfast.runs.progress import Reporter

    options.refuse_ranks("data verify")
    target = skips or data / lists.NAME
    if data.is_dir():
        verify.check_place(target)
    with Reporter(visible=True) as reporter:
        task = reporter.task(f"verify {data}", None, "images")
        images, found = verify.verify(data, task.update)
        task.close()
    bad = verify.write_skips(target, found)
    options.write_json(json, {"data": str(data), "images": images, "found": [each._asdict() for each in found]})
    if not found:
        print(f"{data}: {images:,} images, nothing wrong")
        return
    _show(found)
    parts = []
    if bad:
        setting = f" if told data.skips={target}" if skips else ""
        parts.append(f"{data}: bad images: {bad:,}; {target} lists them, and training leaves them out{setting}")
    if broken := len([each for each in found if each.remedy == "mend"]):
        parts.append(f"{data}: faults to mend by hand: {broken:,}; the table names them")
    raise UserError(". ".join(parts))


def _show(found: "list[Found]") -> None:
    """A table with a row a kind: how many there are, and the first of them."""
    from rich.table import Table
    from rich.text import Text

    from hpcfast.runs.names import printable
    from hpcfast.runs.progress import console

    grid = Table("found", "count", "remedy", "for instance")
    for (remedy, kind), rows in groupby(sorted(found, key=_group), _group):
        some = list(rows)
        first = "\n".join(printable(f"{each.name}: {each.reason}") for each in some[:EXAMPLES])
        grid.add_row(kind, f"{len(some):,}", REMEDIES[remedy], Text(first, overflow="fold"))
    console(140).print(grid)


def _group(found: "Found") -> tuple[str, str]:
    return found.remedy, found.kind
