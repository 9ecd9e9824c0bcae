"""A comparison as a table for the terminal, and as numbers for a file."""

import math
from collections.abc import Sequence
from typing import Any

from rich.table import Table

from hpcfast.scaling.compare import Compared
from hpcfast.scaling.findings import ratio


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
            *names, f"{nodes:,}", *(_seconds(cell.ttra) for cell in (each.a, each.b)), ratio(found),
            f"{found.runs[0]} v {found.runs[1]}" if found else "–",
            "–" if each.p_corrected is None else f"{each.p_corrected:.2g}",
            "; ".join([each.verdict, *each.notes]),
        )  # fmt: skip
    return grid


def numbers(compared: Sequence[Compared]) -> list[dict[str, Any]]:
    """The same for JSON, which knows no infinity: that is null."""
    return [
        {
            **dict(zip(("data", "method", "scaling", "nodes"), each.a.key, strict=True)),
            "a_seconds": each.a.ttra,
            "b_seconds": each.b.ttra,
            "ratio": _finite(each.difference.ratio) if each.difference else None,
            "ci95": [_finite(end) for end in each.difference.interval or ()] or None if each.difference else None,
            "n": list(each.difference.runs) if each.difference else None,
            "p": each.difference.p if each.difference else None,
            "p_holm": each.p_corrected,
            "verdict": each.verdict,
            "notes": list(each.notes),
        }
        for each in compared
    ]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:,.4g}"
