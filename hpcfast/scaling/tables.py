"""Tables, each made once for the terminal, for Markdown and for the page; and those of a study's report."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import rich.table

from hpcfast.report.format import duration, percent
from hpcfast.runs.clock import PARTS
from hpcfast.scaling.cells import Cell, gain
from hpcfast.scaling.findings import ratio
from hpcfast.scaling.collect import Row
from hpcfast.scaling.statistics import duels

NOTHING = "–"
"""Stands for what is not known."""


@dataclass(frozen=True)
class Table:
    """Columns and rows of words."""

    title: str
    columns: list[str]
    """Those that begin with # hold numbers and are aligned on the right."""
    rows: list[list[str]]
    caption: str = ""

    def markdown(self) -> str:
        """Its lines; the title stays with the page."""
        names = [name.lstrip("#") for name in self.columns]
        rows = [[value.replace("|", "\\|").replace("\n", " ") for value in row] for row in self.rows]
        lines = [f"| {' | '.join(row)} |" for row in (names, ["---"] * len(names), *rows)]
        return "\n".join([self.caption, "", *lines] if self.caption else lines)

    def terminal(self) -> rich.table.Table:
        """For rich's console."""
        found = rich.table.Table(title=self.title, title_justify="left", caption=self.caption, caption_justify="left")
        for name in self.columns:
            found.add_column(name.lstrip("#"), justify="right" if name[0] == "#" else "left")
        for row in self.rows:
            found.add_row(*row)
        return found


def table(title: str, columns: str, rows: Iterable[Sequence[str]], caption: str = "") -> Table:
    """A table without the ``columns`` (names between |) of which nothing is known in any row."""
    names, lines = columns.split("|"), [list(row) for row in rows]
    kept = [i for i in range(len(names)) if not lines or any(line[i] not in ("", NOTHING) for line in lines)]
    return Table(title, [names[i] for i in kept], [[line[i] for i in kept] for line in lines], caption)


def known(value: float | None, say: Callable[[float], str] = "{:,.4g}".format) -> str:
    """A number in words, or a dash for what is not known."""
    return NOTHING if value is None else say(value)


def of_data(cells: Sequence[Cell], price: float | None) -> list[Table]:
    """Those of one data set; ``price`` is that of a node-hour."""
    methods = [
        [*b.kind[1:3], a.kind.method, f"{b.nodes}", ratio(duel), f"{len(a.ended)} against {len(b.ended)}", duel.why_none]
        for duel in duels(cells)
        for a, b in [(duel.a, duel.b)]
    ]
    compared = "How many times as fast to the target; in brackets a 95 % interval"
    shares = [
        [cell.kind.method, cell.kind.scaling, f"{cell.nodes}", *(percent(cell.shares[part]) for part in PARTS)]
        for cell in cells
        if cell.shares
    ]
    found = [
        table("Methods at equal nodes", "Method|Scaling|Against|#Nodes|#Times as fast|#Runs|Note", methods, compared),
        table("Cells", CELL, [_cell(cell, cells, price) for cell in cells]),
        table("Where the time goes", f"Method|Scaling|#Nodes|#{'|#'.join(PARTS).replace('_', ' ')}", shares),
    ]
    return [each for each in found if each.rows]


CELL = (
    "Method|Scaling|#Nodes|#Global batch|#Time to robust accuracy|#Variation|#Speed-up|#Efficiency|#Epochs"
    "|#s per epoch|#Images/s|#Node-hours|#Cost|#Joules|Averaged"
)


def _cell(cell: Cell, cells: Sequence[Cell], price: float | None) -> list[str]:
    hours, whole = cell.node_hours, "{:,.0f}".format
    speed_up, efficiency = gain(cell, cells)
    cost = None if price is None or hours is None else hours * price
    return [
        *cell.kind[1:3], f"{cell.nodes}", known(cell.global_batch, whole),
        "none" if cell.ttra is None else duration(cell.ttra), known(cell.variation, percent),
        known(speed_up, "{:.2f}".format), known(efficiency, percent),
        known(cell.epochs), known(cell.seconds_per_epoch), known(cell.images_per_second, whole), known(hours),
        known(cost), known(cell.joules, whole),
        f"{len(cell.counted)} of {len(cell.rows)}" + (f": {cell.why_none}" if cell.why_none else ""),
    ]  # fmt: skip


def of_runs(cells: Iterable[Cell]) -> list[Table]:
    """All runs, and what they ran on."""
    every = [(row, cell) for cell in cells for row in cell.rows]
    begun = [row for row, _ in every if row.status != "missing"]
    where = Counter((row.hardware or "unknown", row.versions or "unknown") for row in begun)
    columns = "Run|Status|In its cell|#Time to robust accuracy|#Epochs|#Images/s|#Clean accuracy|#Robust accuracy"
    return [
        table("All runs", f"{columns}|Confirmed|Note", [_run(row, cell) for row, cell in every]),
        table("Environment", "Hardware|#Runs|Versions", [[on, f"{n}", of] for (on, of), n in sorted(where.items())]),
    ]


def _run(row: Row, cell: Cell) -> list[str]:
    role = "averaged" if row in cell.counted else "" if not row.done else "dropped" if cell.counted else "not averaged"
    confirmed = ", ".join(f"{attack} {percent(accuracy)}" for attack, accuracy in row.confirmed.items())
    return [
        row.job, row.status, role, known(row.ttra, duration), known(row.epochs),
        known(row.images_per_second, "{:,.0f}".format), known(row.clean_accuracy, percent),
        known(row.robust_accuracy, percent), confirmed, row.note,
    ]  # fmt: skip
