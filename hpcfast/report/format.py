"""Numbers, attacks and tables as people write them."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import rich.table

from hpcfast.runs.names import in_markdown, printable

UNKNOWN = "–"
"""Stands for what is not known."""


def attack_in_words(attack: dict[str, Any], threat: bool = True) -> str:
    """An attack, with its threat model where that is known and wanted, e.g. ``pgd 50 x 10, Linf eps 8/255``."""
    numbers = " x ".join(str(attack[key]) for key in ("steps", "restarts") if key in attack)
    words = " ".join(filter(None, (str(attack.get("name", "?")), numbers)))
    return f"{words}, {threat_in_words(attack)}" if threat and "eps" in attack else words


def attack_spelled_out(attack: dict[str, Any]) -> str:
    """An attack with all of its settings and the threat model, e.g. ``apgd, 100 steps, 9 targets, Linf eps 8/255``."""
    settings = {key: value for key, value in attack.items() if key not in ("name", "norm", "eps") and value is not None}
    words = [
        count(value, key.removesuffix("s")) if isinstance(value, int) and key.endswith("s") else f"{key} {value}"
        for key, value in settings.items()
        if not isinstance(value, dict | list)
    ]
    return ", ".join([attack["name"], *words, threat_in_words(attack)])


def threat_in_words(attack: dict[str, Any]) -> str:
    """E.g. ``Linf eps 8/255`` (pixels in [0,1])."""
    eps, levels = attack["eps"], attack["eps"] * 255
    short = f"{eps:.4g}"
    in_levels = float(short) != eps and abs(levels - round(levels)) < 1e-6
    return f"{attack['norm']} eps {f'{round(levels)}/255' if in_levels else short}"


def count(n: int, what: str) -> str:
    """``1 node``, ``2 nodes``."""
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"


def percent(fraction: float) -> str:
    """A fraction, e.g. ``71.4 %``."""
    return f"{100 * fraction:.1f} %"


def duration(seconds: float) -> str:
    """Seconds up to two minutes, then hours and minutes; of less than a tenth of a second ms, µs or ns."""
    if 0 < seconds < 0.1:
        return short_time(seconds)
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 100:
        return f"{hours:,} h"
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def short_time(seconds: float) -> str:
    """Three digits of what a step or a message takes, e.g. ``50.6 µs``; of more than two minutes as a duration."""
    for unit, size in (("s", 1), ("ms", 1e-3), ("µs", 1e-6), ("ns", 1e-9)):
        if seconds >= 0.9995 * size or not seconds:
            return f"{seconds / size:.3g} {unit}" if seconds < 120 else duration(seconds)
    return "less than 1 ns"


def bandwidth(bytes_per_second: float) -> str:
    """E.g. ``1.25 GB/s``."""
    for unit, size in (("GB/s", 1e9), ("MB/s", 1e6), ("kB/s", 1e3)):
        if bytes_per_second >= size:
            return f"{bytes_per_second / size:.3g} {unit}"
    return f"{bytes_per_second:.3g} B/s"


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
