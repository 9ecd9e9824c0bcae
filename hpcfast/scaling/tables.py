"""The tables of a study's report, and how a study's tables are made."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from hpcfast.report.format import UNKNOWN, Table, duration, percent
from hpcfast.runs.clock import PARTS
from hpcfast.scaling.cells import Cell, gain
from hpcfast.scaling.collect import Row
from hpcfast.scaling.statistics import duels

CELL = (
    "Method|Scaling|#Nodes|#Global batch|#Time to robust accuracy|#Variation|#Speed-up|#Efficiency|#Epochs"
    "|#Time per epoch|#Images/s|#Node time|#Cost|#Joules|Averaged"
)
RUN = (
    "Run|Status|In its cell|#Time to robust accuracy|#Epochs|#Images/s|#Clean accuracy|#Robust accuracy|Confirmed|Note"
)


def table(title: str, columns: str, rows: Iterable[Sequence[str]], caption: str = "") -> Table:
    """A table without those columns of which nothing is known in any row.

    Args:
        columns: names with | between them; those with a # before them are of numbers.
    """
    names, lines = columns.split("|"), list(rows)
    kept = [i for i in range(len(names)) if not lines or any(line[i] not in ("", UNKNOWN) for line in lines)]
    headings = [names[i].lstrip("#") for i in kept]
    align = "".join("r" if names[i][0] == "#" else "l" for i in kept)
    return Table(title, headings, [[line[i] for i in kept] for line in lines], align, caption)


def number(value: float) -> str:
    """Four digits, and no powers of ten."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def money(amount: float) -> str:
    """In whatever a study's price is in."""
    return "less than 0.01" if 0 < amount < 0.005 else f"{amount:,.2f}"


def known(value: float | None, say: Callable[[float], str] = number) -> str:
    """A number in words, or a dash for what is not known: None or NaN."""
    return UNKNOWN if value is None or math.isnan(value) else say(value)


def of_data(cells: Sequence[Cell], price: float | None) -> list[Table]:
    """Those of one data set; ``price`` is that of a node-hour."""
    methods = [
        [*b.kind[1:3], a.kind.method, f"{b.nodes}", duel.ratio_in_words, f"{len(a.ended)} against {len(b.ended)}", why]
        for duel in duels(cells)
        for a, b, why in [(duel.a, duel.b, duel.why_none)]
    ]
    compared = "How many times as fast to the target; in brackets a 95 % interval"
    shares = [
        [*cell.kind[1:3], f"{cell.nodes}", *(percent(cell.shares[part]) for part in PARTS)]
        for cell in cells
        if cell.shares
    ]
    found = [
        table("Methods at equal nodes", "Method|Scaling|Against|#Nodes|#Times as fast|#Runs|Note", methods, compared),
        table("Cells", CELL, [_cell(cell, cells, price) for cell in cells]),
        table("Where the time goes", f"Method|Scaling|#Nodes|#{'|#'.join(PARTS).replace('_', ' ')}", shares),
    ]
    return [each for each in found if each.rows]


def _cell(cell: Cell, cells: Sequence[Cell], price: float | None) -> list[str]:
    whole = "{:,.0f}".format
    speed_up, efficiency = gain(cell, cells)
    cost = math.nan if price is None else cell.node_hours * price
    return [
        *cell.kind[1:3], f"{cell.nodes}", known(cell.global_batch, whole),
        "none" if math.isnan(cell.ttra) else duration(cell.ttra), known(cell.variation, percent),
        known(speed_up, "{:.2f}".format), known(efficiency, percent),
        known(cell.epochs), known(cell.seconds_per_epoch, duration), known(cell.images_per_second, whole),
        known(cell.node_hours * 3600, duration), known(cost, money), known(cell.joules, whole),
        f"{len(cell.counted)} of {len(cell.rows)}" + (f": {cell.why_none}" if cell.why_none else ""),
    ]  # fmt: skip


def of_runs(cells: Iterable[Cell]) -> list[Table]:
    """All runs, and what they ran on."""
    every = [(row, cell) for cell in cells for row in cell.rows]
    begun = [row for row, _ in every if row.status != "missing"]
    where = Counter((row.hardware or "unknown", row.versions or "unknown") for row in begun)
    return [
        table("All runs", RUN, [_run(row, cell) for row, cell in every]),
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
