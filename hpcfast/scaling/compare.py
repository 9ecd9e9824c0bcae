"""Is one study faster than another, or is it the seeds? Cell by cell, for the terminal and as numbers for a file."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich.table import Table

from hpcfast.scaling.cells import Cell, cells, count
from hpcfast.scaling.findings import listed, number, ratio
from hpcfast.scaling.rows import Row
from hpcfast.scaling.statistics import LEVEL, Difference, difference, holm


@dataclass(frozen=True)
class Compared:
    """A cell in two studies."""

    a: Cell
    b: Cell
    difference: Difference | None
    why_none: str = ""
    p_corrected: float | None = None
    """By Holm, over all cells that are compared."""
    notes: tuple[str, ...] = ()
    """What else differs between the two."""

    @property
    def verdict(self) -> str:
        if self.difference is None:
            return self.why_none
        if self.difference.too_few:
            return self.difference.too_few
        if self.p_corrected is None or self.p_corrected >= LEVEL:
            return "no significant difference"
        return "B is faster" if self.difference.ratio > 1 else "A is faster"


def compare(a: Iterable[Row], b: Iterable[Row]) -> list[Compared]:
    """Every cell that both studies have."""
    others = {cell.key: cell for cell in cells(b)}
    found = [_pair(cell, others[cell.key]) for cell in cells(a) if cell.key in others]
    corrected = iter(holm([each.difference.p for each in found if each.difference]))
    return [replace(each, p_corrected=next(corrected)) if each.difference else each for each in found]


def table(compared: Sequence[Compared], a: str, b: str) -> Table:
    """A row a cell."""
    caption = f"A: {a}; B: {b}; ratio: A's time over B's, in brackets a 95 % interval; p: by Holm, over all cells"
    grid = Table(caption=caption, caption_justify="left")
    for heading in ("data", "method", "scaling", "nodes", "A, s", "B, s", "ratio", "runs", "p", "verdict"):
        grid.add_column(heading, justify="right" if heading in ("nodes", "A, s", "B, s", "ratio", "p") else "left")
    for each in compared:
        found = each.difference
        *names, nodes = each.a.key
        grid.add_row(
            *names, f"{nodes:,}", *(number(cell.ttra) for cell in (each.a, each.b)), ratio(found),
            f"{found.runs[0]} v {found.runs[1]}" if found else "–",
            "–" if each.p_corrected is None else f"{each.p_corrected:.2g}",
            "; ".join([each.verdict, *each.notes]),
        )  # fmt: skip
    return grid


def numbers(compared: Sequence[Compared]) -> list[dict[str, Any]]:
    """The same for JSON."""
    return [
        {
            **dict(zip(("data", "method", "scaling", "nodes"), each.a.key, strict=True)),
            "a_seconds": each.a.ttra,
            "b_seconds": each.b.ttra,
            "ratio": found.ratio if found else None,
            "ci95": found.interval if found else None,
            "n": found.runs if found else None,
            "p": found.p if found else None,
            "p_holm": each.p_corrected,
            "verdict": each.verdict,
            "notes": each.notes,
        }
        for each in compared
        for found in [each.difference]
    ]


def _pair(a: Cell, b: Cell) -> Compared:
    found = difference(a, b)
    notes = []
    for field in ("hardware", "versions", "global_batch"):
        one, other = ({getattr(row, field) for row in cell.ended} for cell in (a, b))
        if one != other:
            notes.append(f"{field.replace('_', ' ')}: A {_each(one)}, B {_each(other)}")
    notes += [f"{name} lacks {count(len(cell.absent), 'run')}" for name, cell in (("A", a), ("B", b)) if cell.absent]
    if isinstance(found, str):
        return Compared(a, b, None, found, notes=tuple(notes))
    return Compared(a, b, found, notes=tuple(notes))


def _each(values: set[object]) -> str:
    return listed(sorted(map(str, values))) or "nothing"
