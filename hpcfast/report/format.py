"""Numbers, attacks and tables as people write them."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import rich.table

from hpcfast.runs.names import in_markdown, printable

UNKNOWN = "–"
"""Stands for what is not known."""


def attack_in_words(attack: dict[str, Any]) -> str:
    """An attack, with the threat model where it is given, e.g. ``pgd 50 x 10, Linf eps 8/255`` (pixels in [0,1])."""
    numbers = " x ".join(str(attack[key]) for key in ("steps", "restarts") if key in attack)
    words = " ".join(filter(None, (str(attack.get("name", "?")), numbers)))
    if "eps" not in attack:
        return words
    eps, levels = attack["eps"], attack["eps"] * 255
    short = f"{eps:.4g}"
    in_levels = float(short) != eps and abs(levels - round(levels)) < 1e-6
    return f"{words}, {attack['norm']} eps {f'{round(levels)}/255' if in_levels else short}"


def percent(fraction: float) -> str:
    """A fraction, e.g. ``71.4 %``."""
    return f"{100 * fraction:.1f} %"


def duration(seconds: float) -> str:
    """Seconds up to two minutes, then hours and minutes."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def moment(time: float) -> str:
    """A time (seconds since 1970), e.g. ``2026-11-22 20:44:01 UTC``."""
    return f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M:%S} UTC"


def with_interval(value: float, interval: Sequence[float]) -> str:
    """E.g. ``0.714 [0.690, 0.737]``."""
    low, high = interval
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


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
        head, *rows = [[*map(in_markdown, row)] for row in (self.headings, *self.rows)]
        lines = [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]
        return "\n".join([in_markdown(self.caption), "", *lines] if self.caption else lines)
