"""What a study asked, what it found and what is wrong with it, in sentences."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from hpcfast.report.format import duration, percent
from hpcfast.scaling.cells import ENOUGH, Cell, count, gain, time_of
from hpcfast.scaling.rows import Row
from hpcfast.scaling.statistics import Difference, difference, suspicious

FEW = 8
"""So many jobs are named in a warning; the table of runs has them all."""


@dataclass(frozen=True)
class Duel:
    """Two methods on the same nodes."""

    slow: Cell
    fast: Cell
    difference: Difference | None
    why_none: str = ""


def asked(data: str, cells: Sequence[Cell]) -> str:
    """The question, of one data set."""
    targets = " or ".join(percent(target) for target in sorted({cell.target or 0.0 for cell in cells}) if target)
    methods, scalings = (sorted({cell.series[i] for cell in cells}) for i in (1, 2))
    nodes = sorted({cell.nodes for cell in cells})
    on = listed([*(f"{n:,}" for n in nodes[:-1]), count(nodes[-1], "node")])
    seeds = sorted({len(cell.rows) for cell in cells})
    does = "does" if len(methods) == 1 else "do"
    return (
        f"How long {does} {listed(methods)} take to {targets or 'the target'} robust accuracy on {data}, on {on}, with "
        f"{listed(scalings)} scaling and {' to '.join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))} seeds each?"
    )


def answer(cells: Sequence[Cell]) -> str:
    """The answer, of one data set, in two sentences."""
    known = [cell for cell in cells if cell.ttra is not None]
    if not known:
        return "No answer yet: no cell has a time to robust accuracy."
    best = min(known, key=lambda cell: cell.ttra or math.inf)
    where = f"{count(best.nodes, 'node')} ({best.key[2]} scaling)"
    text = f"The fastest was {best.key[1]} on {where}: {duration(best.ttra or 0)}"
    base = min((cell for cell in known if cell.series == best.series), key=lambda cell: cell.nodes)
    if base is not best and base.ttra and best.ttra and not (base.shared or best.shared):
        times = base.ttra / best.ttra
        than = f"than on {count(base.nodes, 'node')}"
        text += f", {times:.2g} times sooner {than}" if times >= 1.05 else f", hardly sooner {than}"
    told = [duel for duel in duels(cells) if duel.difference and duel.difference.interval]
    if not told and len({cell.key[1] for cell in cells}) == 1:
        return f"{text}."
    if not told:
        return f"{text}. Methods cannot be compared: see the table below."
    last = max(told, key=lambda duel: (duel.fast.nodes, duel.fast.series == best.series))
    where = f"{count(last.fast.nodes, 'node')} ({last.fast.key[2]} scaling)"
    said = f"{last.fast.key[1]} gets there {ratio(last.difference)} times as fast as {last.slow.key[1]}"
    low, high = last.difference.interval if last.difference and last.difference.interval else (0.0, 0.0)
    return f"{text}. At {where} {said}{', which may be chance' if low <= 1 <= high else ''}."


def duels(cells: Sequence[Cell]) -> list[Duel]:
    """Each method against the slowest one, at equal nodes; of one data set."""
    methods = sorted({cell.key[1] for cell in cells})
    slowest = max(methods, key=lambda method: median(_times(cells, method) or [0.0]))
    found = []
    for slow in cells:
        for fast in cells:
            if slow.key[1] == slowest != fast.key[1] and slow.key[2:] == fast.key[2:]:
                said = difference(slow, fast)
                found.append(Duel(slow, fast, None, said) if isinstance(said, str) else Duel(slow, fast, said))
    return sorted(found, key=lambda duel: (duel.fast.key[1:3], duel.fast.nodes))


def ratio(found: Difference | None) -> str:
    """``3.1 [2.8, 3.4]``, the interval being of 95 %; runs that did not converge can make it end at 0 or ∞."""
    if found is None:
        return "–"
    if found.interval is None:
        return f"{found.ratio:.2f}"
    low, high = found.interval
    return f"{found.ratio:.2f} [{low:.2f}, {f'{high:.2f}' if math.isfinite(high) else '∞'}]"


def warnings(cells: Sequence[Cell]) -> list[str]:
    """All that a reader must know before he believes a number."""
    rows = [row for cell in cells for row in cell.rows]
    found = []
    for status in ("missing", "crashed", "unfinished"):
        found += _jobs([row for row in rows if row.status == status], len(rows), f"{status}, not averaged")
    found += _jobs([row for row in rows if row.status == "not converged"], len(rows), "not converged")
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
    found += [f"{cell.name} is suspiciously fast: {why}." for cell in cells if (why := suspicious(cell, cells))]
    few = [cell for cell in cells if 0 < len(cell.ended) < ENOUGH]
    if few:
        fewer = f"have fewer than {ENOUGH} runs that ended: plain means, no run dropped"
        found.append(f"{len(few)} of {count(len(cells), 'cell')} {fewer}.")
    return found


def role(row: Row, cell: Cell) -> str:
    """What a run is to the average of its cell."""
    if row in cell.counted:
        return "averaged"
    if row not in cell.ended:
        return ""
    return "dropped" if cell.counted else "not averaged"


def gains(cell: Cell, cells: Sequence[Cell]) -> tuple[str, str]:
    """Speed-up and efficiency as they are shown."""
    found = gain(cell, cells)
    return (f"{found.speed_up:.2f}", percent(found.efficiency)) if found else ("–", "–")


def number(value: float | None, form: str = "{:,.4g}") -> str:
    """A number, or a dash for what is not known."""
    return "–" if value is None else form.format(value)


def listed(names: Sequence[str]) -> str:
    """``a, b and c``."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _times(cells: Iterable[Cell], method: str) -> list[float]:
    return [time_of(row) for cell in cells if cell.key[1] == method for row in cell.ended]


def _jobs(rows: Sequence[Row], of: int, what: str) -> list[str]:
    if not rows:
        return []
    by_note: dict[str, list[str]] = {}
    for row in rows:
        by_note.setdefault(row.note[-160:], []).append(row.job)  # the end of a log says most
    named = [_few(jobs, ", ") + (f" ({note})" if note else "") for note, jobs in by_note.items()]
    return [f"{len(rows)} of {count(of, 'run')} {what}: {_few(named, '; ')}."]


def _few(names: Sequence[str], between: str) -> str:
    more = f" and {len(names) - FEW} more" if len(names) > FEW else ""
    return between.join(names[:FEW]) + more
