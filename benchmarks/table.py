"""Rows of the speed table: as JSON, and as Markdown between two markers of a page."""

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hpcfast.bench import Spread, Taken, ratio

BEGIN, END = "<!-- written by make bench -->", "<!-- end -->"
HEAD = "| ours | peer | CPU time, ours / peer | wall time | limit | asked | n | what explains the rest |"


@dataclass(frozen=True)
class Row:
    """One comparison; ratios of what ours takes to what the peer takes: below 1 ours is cheaper."""

    ours: str
    peer: str
    cpu: Spread | None
    wall: Spread
    n: int
    rest: str
    limit: float | None = None
    asked: float | None = None

    def markdown(self) -> str:
        limit, asked = ("" if value is None else f"{value:.2f}" for value in (self.limit, self.asked))
        cells = (self.ours, self.peer, self.cpu or "", self.wall, limit, asked, self.n, self.rest)
        return "| " + " | ".join(str(cell) for cell in cells) + " |"


def compare(
    taken: dict[str, list[Taken]],
    ours: str,
    peer: str,
    rest: str,
    limit: float | None = None,
    asked: float | None = None,
) -> Row:
    """The row of two of the cases.

    Args:
        rest: what explains the distance from the limit.
        limit: the ratio that arithmetic or hardware allows.
        asked: the ratio that issue 8 asks for.
    """
    wall = ratio([one.wall for one in taken[ours]], [one.wall for one in taken[peer]])
    cpu = ratio([one.cpu for one in taken[ours]], [one.cpu for one in taken[peer]])
    return Row(ours, peer, cpu, wall, len(taken[ours]), rest, limit, asked)


def save(path: Path, stage: dict[str, Any], rows: list[Row]) -> None:
    """Keep a stage's rows and what is to be known about them, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_suffix(".half")
    half.write_text(json.dumps(stage | {"rows": [asdict(row) for row in rows]}, indent=1) + "\n")
    half.replace(path)


def load(path: Path) -> tuple[dict[str, Any], list[Row]]:
    """What :func:`save` kept."""
    stage = json.loads(path.read_text())
    rows = [Row(**row | {key: Spread(*row[key]) for key in ("cpu", "wall") if row[key]}) for row in stage.pop("rows")]
    return stage, rows


def markdown(stages: list[tuple[dict[str, Any], list[Row]]]) -> str:
    """A table a stage, and under what conditions it was measured."""
    parts = []
    for stage, rows in stages:
        lines = [HEAD, "|" + "---|" * (HEAD.count("|") - 1), *(row.markdown() for row in rows)]
        busy = (
            f"busy machine: other processes took {stage['others']:.0%} of its cores when it began; "
            if stage["busy"]
            else ""
        )
        short = "shortened, only to see that it works; " if stage["short"] else ""
        caption = f"{short}{busy}{stage['date']}, {stage['machine']}, version {stage['version']}"
        parts.append("\n".join([f"### {stage['title']}", "", stage["about"], "", *lines, "", f"({caption})"]))
    return "\n\n".join(parts)


def insert(page: Path, text: str) -> None:
    """Put the tables of ``text`` between the markers of ``page``; those of other stages that are there stay.

    Raises:
        SystemExit: there are none.
    """
    before, begin, rest = page.read_text().partition(BEGIN)
    kept, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{page} lacks the lines '{BEGIN}' and '{END}', between which the table goes; put them there")
    tables = "\n\n".join((_by_title(kept) | _by_title(text)).values())
    half = page.with_suffix(".half")
    half.write_text(f"{before}{BEGIN}\n\n{tables}\n\n{END}{after}")
    half.replace(page)


def _by_title(text: str) -> dict[str, str]:
    """The parts of ``text`` that have a title, in their order."""
    parts = re.split(r"^(?=### )", text, flags=re.MULTILINE)
    return {part.partition("\n")[0]: part.strip() for part in parts if part.startswith("### ")}
