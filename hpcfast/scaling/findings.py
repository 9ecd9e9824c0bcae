"""What a study asked, what it found and what is wrong with it, in sentences."""

import math
from collections.abc import Sequence

from hpcfast.report.format import duration, percent
from hpcfast.scaling.cells import ENOUGH, Cell, count
from hpcfast.scaling.statistics import duels

FEW = 8
"""So many jobs are named in a warning; the table of runs has them all."""


def asked(data: str, cells: Sequence[Cell]) -> str:
    """The question, of one data set."""
    targets = " or ".join(map(percent, sorted({row.target for cell in cells for row in cell.rows})))
    return f"How long does it take to {targets} robust accuracy on {data}, and on how many nodes?"


def answer(cells: Sequence[Cell]) -> str:
    """The answer, of one data set, in two sentences."""
    known = [cell for cell in cells if cell.ttra is not None]
    if not known:
        return "No answer yet: no cell has a time to robust accuracy."
    best = min(known, key=lambda cell: cell.ttra or math.inf)
    where = f"{count(best.nodes, 'node')} ({best.kind.scaling} scaling)"
    text = f"The fastest was {best.kind.method} on {where}: {duration(best.ttra or 0)}"
    base = min((cell for cell in known if cell.series == best.series), key=lambda cell: cell.nodes)
    if base is not best and base.ttra and best.ttra and not (base.shared or best.shared):
        times = base.ttra / best.ttra
        than = f"than on {count(base.nodes, 'node')}"
        text += f", {times:.2g} times sooner {than}" if times >= 1.05 else f", hardly sooner {than}"
    told = [duel for duel in duels(cells) if duel.interval]
    if not told:
        alone = len({cell.kind.method for cell in cells}) == 1
        return f"{text}." if alone else f"{text}. Methods cannot be compared: see the table below."
    last = max(told, key=lambda duel: (duel.b.nodes, duel.b.series == best.series))
    where = f"{count(last.b.nodes, 'node')} ({last.b.kind.scaling} scaling)"
    said = f"{last.b.kind.method} gets there {last.ratio_in_words} times as fast as {last.a.kind.method}"
    return f"{text}. At {where} {said}{', which may be chance' if last.chance else ''}."


def warnings(cells: Sequence[Cell]) -> list[str]:
    """All that a reader must know before he believes a number."""
    rows = [row for cell in cells for row in cell.rows]
    found = []
    for status in ("missing", "crashed", "unfinished", "not converged"):
        if jobs := [row.job + (f" ({row.note[-160:]})" if row.note else "") for row in rows if row.status == status]:
            aside = "" if status == "not converged" else ", not averaged"
            found.append(f"{len(jobs)} of {count(len(rows), 'run')} {status}{aside}: {_few(jobs, '; ')}.")
    found += [f"{cell.name}: {cell.why_none}." for cell in cells if cell.mixed]
    for field in ("hardware", "versions"):
        values = sorted({getattr(row, field) for row in rows} - {""})
        if len(values) > 1:
            found.append(f"Mixed {field}: {'; '.join(values)}. Cells of different {field} are not comparable.")
    shared = {cell.name: row for cell in cells for row in cell.ended if row.shares}
    if shared:
        named = [f"{name}: {count(row.ranks, 'rank')}, room for {row.slots}" for name, row in shared.items()]
        cure = "Trust the epochs of these cells, not their speed; no speed-up or efficiency is computed from them."
        found.append(f"Ranks share cores or GPUs ({_few(named, '; ')}). {cure}")
    found += [f"{row.job}: slow ranks: {'; '.join(row.stragglers)}." for row in rows if row.stragglers]
    few = [cell for cell in cells if 0 < len(cell.ended) < ENOUGH]
    if few:
        fewer = f"have fewer than {ENOUGH} runs that ended: plain means, no run dropped"
        found.append(f"{len(few)} of {count(len(cells), 'cell')} {fewer}.")
    return found


def _few(names: Sequence[str], between: str) -> str:
    more = f" and {len(names) - FEW} more" if len(names) > FEW else ""
    return between.join(names[:FEW]) + more
