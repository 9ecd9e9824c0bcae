"""A table in words, for the terminal, for Markdown and for a page."""

from collections.abc import Sequence
from typing import NamedTuple

import rich.table

from hpcfast.runs.names import printable

UNKNOWN = "–"
"""Stands for what is not known."""


class Table(NamedTuple):
    """Cells in words."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    align: str
    """A letter for each column: ``l`` for text, ``r`` for numbers."""
    caption: str = ""

    def terminal(self) -> rich.table.Table:
        """For rich's console."""
        found = rich.table.Table(title=self.title, title_justify="left", caption=self.caption, caption_justify="left")
        for heading, side in zip(self.headings, self.align, strict=True):
            found.add_column(printable(heading), justify="right" if side == "r" else "left")
        for row in self.rows:
            found.add_row(*map(printable, row))
        return found

    def markdown(self) -> str:
        """Without its title, which belongs to the page."""
        rows = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in self.rows]
        lines = [f"| {' | '.join(row)} |" for row in (self.headings, ["---"] * len(self.headings), *rows)]
        return "\n".join([self.caption, "", *lines] if self.caption else lines)
