"""A table of labels beside images: CSV with any usual delimiter, with or without a header, or JSON lines."""

import csv
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from posixpath import normpath
from typing import NamedTuple

from hpcfast.data.images import SUFFIXES
from hpcfast.errors import UserError
from hpcfast.runs.reading import loads

FILES = ("file_name", "filename", "file", "image", "path")
LABELS = ("label", "labels", "class", "target", "category", "y")
SPLITS = ("split", "subset", "fold")
DELIMITERS = (",", ";", "\t", None)
"""None: blanks."""
LOOKED_AT = 20
"""Rows that show which column names files."""


class Row(NamedTuple):
    """One image."""

    file: str
    """Relative to the table's folder."""
    label: str
    split: str
    """Empty: the table doesn't say."""
    group: str
    """Empty: none."""


class Table(NamedTuple):
    """What a file holds; ``columns`` are their names, or their numbers from 1 where there is no header."""

    columns: list[str]
    rows: list[list[str]]
    named: bool


def read(path: Path, labels: str | None, groups: str | None) -> list[Row]:
    """The images that the table ``path`` lists, labelled by the column ``labels``, grouped by ``groups``.

    Raises:
        UserError: no column holds files or labels; a file is missing, outside the table's folder, no image, or has
            two labels; a label is empty.
    """
    table = _json(path) if path.suffix in (".jsonl", ".ndjson") else _csv(path)
    if not table.rows:
        raise UserError(f"{path} lists no image; write a line a file, its name and its label")
    file = _files(path, table)
    label = _column(path, table, "labels", labels, LABELS, file)
    group = None if groups is None else _column(path, table, "groups", groups, (), file)
    named = [name.lower() for name in table.columns]
    split = next((named.index(name) for name in SPLITS if name in named), None)
    found: dict[str, Row] = {}
    for number, cells in enumerate(table.rows, 1 + table.named):
        row = Row(normpath(cells[file]), cells[label], *("" if at is None else cells[at] for at in (split, group)))
        before = found.setdefault(row.file, row)
        if before.label != row.label:
            raise UserError(
                f"{path}, line {number}: {row.file} is '{row.label}', and '{before.label}' above; give one label"
            )
        if not row.label:
            raise UserError(f"{path}, line {number}: {row.file} has no label; give one, or remove the line")
        if row.label.startswith(".") or "/" in row.label or not row.label.isprintable():
            raise UserError(
                f"{path}, line {number}: {row.label!a:.80} cannot be a folder's name; call the class otherwise"
            )
    _check(path, [*found])
    return [*found.values()]


def _json(path: Path) -> Table:
    try:
        lines = [loads(line) for line in path.read_text().splitlines() if line.strip()]
        columns = [*dict.fromkeys(key for line in lines for key in line)]
        rows = [["" if (cell := line.get(name)) is None else str(cell) for name in columns] for line in lines]
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is no table of JSON objects, one a line: {error}") from None
    return Table(columns, rows, named=False)


def _csv(path: Path) -> Table:
    try:
        text = path.read_text(encoding="utf-8-sig")
        for delimiter in DELIMITERS:
            rows = _split(text, delimiter)
            if rows and len(rows[0]) > 1 and len({len(row) for row in rows}) == 1 and _has_files(path, rows):
                named = not _has_files(path, rows[:1])
                columns = rows[0] if named else [str(number) for number in range(1, len(rows[0]) + 1)]
                return Table(columns, rows[named:], named)
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as a table: {error}") from None
    first = text.partition("\n")[0][:80]
    raise UserError(
        f"{path}: no column names files below {path.parent}, or lines have different numbers of columns (it begins "
        f"with {first!r}); write e.g. 'images/0001.png,cat', relative to the table"
    )


def _split(text: str, delimiter: str | None) -> list[list[str]]:
    if delimiter is None:
        return [line.split() for line in text.splitlines() if line.strip()]
    return [[cell.strip() for cell in row] for row in csv.reader(text.splitlines(), delimiter=delimiter) if row]


def _has_files(path: Path, rows: list[list[str]]) -> bool:
    return any(_is_file(path, cell) for row in rows[: LOOKED_AT + 1] for cell in row)


def _is_file(path: Path, name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and _is_there(path, name)


def _is_there(path: Path, name: str) -> bool:
    return os.path.isfile(path.parent / name)  # noqa: PTH113 - of a name that no file can have it says no


def _files(path: Path, table: Table) -> int:
    """The column that names files: most often in the first rows."""
    named = [name.lower() for name in table.columns]
    counts = [sum(_is_file(path, row[at]) for row in table.rows[:LOOKED_AT]) for at in range(len(named))]
    if not any(counts):
        known = [named.index(name) for name in FILES if name in named]
        if known:
            return known[0]
        raise UserError(f"{path}: no column of {', '.join(table.columns)} names files below {path.parent}")
    return counts.index(max(counts))


def _column(path: Path, table: Table, setting: str, given: str | None, usual: Sequence[str], other_than: int) -> int:
    """The place of the column ``given``, or of one with a ``usual`` name, or of the only one that is left."""
    if given is not None:
        if given not in table.columns:
            raise UserError(f"{setting}={given}: {path} has the columns {', '.join(table.columns)}")
        return table.columns.index(given)
    named = [name.lower() for name in table.columns]
    left = [at for at in range(len(named)) if at != other_than and named[at] not in SPLITS]
    found = [at for at in left if named[at] in usual] or (left if len(left) == 1 or not table.named else [])
    if not found:
        raise UserError(
            f"{path}: which of the columns {', '.join(table.columns)} has the classes? Say so, e.g. labels={named[-1]}"
        )
    return found[0]


def _check(path: Path, files: list[str]) -> None:
    for what, cure, wrong in _faults(path, files):
        if wrong:
            shown = ", ".join(wrong[:3]) + (", …" if len(wrong) > 3 else "")
            raise UserError(f"{path}: {len(wrong):,} of {len(files):,} files {what}: {shown}. {cure}")


def _faults(path: Path, files: list[str]) -> Iterator[tuple[str, str, list[str]]]:
    outside = [name for name in files if Path(name).is_absolute() or ".." in Path(name).parts]
    yield "lie outside its folder", "Write names relative to it, or put the table above them.", outside
    missing = [name for name in files if not _is_there(path, name)]
    yield "are missing", "Put them there, or remove their lines.", missing
    yield "are no images", f"Read are {', '.join(SUFFIXES)}.", [n for n in files if not n.lower().endswith(SUFFIXES)]
