"""What came out of a study: one HTML page that needs nothing else, a Markdown file, a CSV table and the figures.

It says in sentences what was asked, what was found and what is wrong with it. The numbers are in ``cells`` and
``statistics``, tables and figures in files of these names; the page has the frame and the style of the page on runs.
"""

import math
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from hpcfast.errors import UserError
from hpcfast.report import html
from hpcfast.report.format import count, duration, percent
from hpcfast.runs import names
from hpcfast.runs.files import save_text
from hpcfast.scaling import collect, tables
from hpcfast.scaling.cells import ENOUGH, Cell, cells
from hpcfast.scaling.figures import Picture, pictures
from hpcfast.scaling.statistics import duels
from hpcfast.scaling.study import Study

MARK = '<meta name="generator" content="hpcfast scaling report">'
"""Says that a folder's report.html is ours and may be replaced."""
FEW = 8
"""So many jobs are named in a warning; the table of runs has them all."""


def write(study: Study, rows: list[collect.Row], out: Path | None = None) -> list[Path]:
    """Write report.html, report.md, results.csv and figures/ into ``out``, by default the study's folder.

    Returns:
        The files, the page first.

    Raises:
        UserError: the folder cannot be written, or ``out`` holds a report.html that is not ours.
    """
    folder = out or study.folder
    page, markdown, table = (folder / name for name in ("report.html", "report.md", "results.csv"))
    try:
        if html.is_strange(page, MARK):
            raise UserError(f"{page} is no report on a study of ours; give another --out")
        drawn = {data: pictures(data, own) for data, own in by_data(rows).items()}
        (folder / "figures").mkdir(parents=True, exist_ok=True)
        for picture in (each for of_data in drawn.values() for each in of_data):
            save_text(folder / "figures" / f"{picture.name}.svg", picture.svg)
        collect.write_csv(table, rows)
        found = contents(study, rows, drawn)
        save_text(markdown, in_markdown(found))
        save_text(page, in_html(found))
    except OSError as error:
        raise UserError(f"{folder} cannot be written ({error}); give --out a folder you may write") from None
    return [page, markdown, table]


def contents(study: Study, rows: list[collect.Row], drawn: dict[str, list[Picture]]) -> dict[str, Any]:
    """All that a report says; ``drawn`` are the figures by data set."""
    every = cells(rows)
    parts = [
        {
            "data": data,
            "asked": asked(data, own),
            "answer": answer(own),
            "tables": tables.of_data(own, study.price_per_node_hour),
            "pictures": drawn[data],
        }
        for data, own in by_data(rows).items()
    ]
    return {"title": study.title, "parts": parts, "warnings": warnings(every), "tables": tables.of_runs(every)}


def in_html(found: dict[str, Any]) -> str:
    """The page, of what :func:`contents` returns."""
    return html.fill("study.html.j2", "hpcfast.scaling", mark=MARK, **found)


def in_markdown(found: dict[str, Any]) -> str:
    """The same for a README or a paper's notes."""
    lines = [f"# {names.in_markdown(found['title'])}", ""]
    for part in found["parts"]:
        lines += [part["asked"], f"**{part['answer']}**", ""]
    lines += [f"- Warning: {names.in_markdown(warning)}" for warning in found["warnings"]]
    for part in found["parts"]:
        lines += ["", f"## {part['data']}"]
        for table in part["tables"]:
            lines += ["", f"### {table.title}", "", table.markdown()]
        lines += ["", *(f"![{picture.title}](figures/{picture.name}.svg)" for picture in part["pictures"])]
    for table in found["tables"]:
        lines += ["", f"## {table.title}", "", table.markdown()]
    return "\n".join([*lines, "", f"{html.signature()} docs/scaling-report.md says how it is counted."])


def by_data(rows: list[collect.Row]) -> dict[str, list[Cell]]:
    """Cells by data set."""
    return {data: list(own) for data, own in groupby(cells(rows), lambda cell: cell.kind.data)}


def asked(data: str, own: Sequence[Cell]) -> str:
    """The question, of one data set."""
    targets = " or ".join(map(percent, sorted({row.target for cell in own for row in cell.rows})))
    return f"How long does it take to {targets} robust accuracy on {data}, and on how many nodes?"


def answer(own: Sequence[Cell]) -> str:
    """The answer, of one data set, in two sentences."""
    known = [cell for cell in own if math.isfinite(cell.ttra)]
    if not known:
        return "No answer yet: no cell has a time to robust accuracy."
    best = min(known, key=lambda cell: cell.ttra)
    where = f"{count(best.nodes, 'node')} ({best.kind.scaling} scaling)"
    text = f"The target was reached fastest on {where}, with {best.kind.method}: {duration(best.ttra)}"
    base = min((cell for cell in known if cell.series == best.series), key=lambda cell: cell.nodes)
    if base is not best and not (base.shared or best.shared):
        times = base.ttra / best.ttra
        than = f"than on {count(base.nodes, 'node')}"
        text += f", {times:.2g} times sooner {than}" if times >= 1.05 else f", hardly sooner {than}"
    told = [duel for duel in duels(own) if duel.interval]
    if not told:
        alone = len({cell.kind.method for cell in own}) == 1
        return f"{text}." if alone else f"{text}. Methods cannot be compared: see the table below."
    last = max(told, key=lambda duel: (duel.b.nodes, duel.b.series == best.series))
    where = f"{count(last.b.nodes, 'node')} ({last.b.kind.scaling} scaling)"
    said = f"{last.b.kind.method} gets there {last.ratio_in_words} times as fast as {last.a.kind.method}"
    return f"{text}. At {where} {said}{', which may be chance' if last.chance else ''}."


def warnings(every: Sequence[Cell]) -> list[str]:
    """All that a reader must know before he believes a number."""
    rows = [row for cell in every for row in cell.rows]
    found = []
    for status in ("missing", "crashed", "unfinished", "not converged"):
        if jobs := [row.job + (f" ({row.note[-160:]})" if row.note else "") for row in rows if row.status == status]:
            aside = "" if status == "not converged" else ", not averaged"
            found.append(f"{len(jobs)} of {count(len(rows), 'run')} {status}{aside}: {_few(jobs, '; ')}.")
    found += [f"{cell.name}: {cell.why_none}." for cell in every if cell.mixed]
    for field in ("hardware", "versions"):
        values = sorted({getattr(row, field) for row in rows} - {""})
        if len(values) > 1:
            found.append(f"Mixed {field}: {'; '.join(values)}. Cells of different {field} are not comparable.")
    shared = {cell.name: row for cell in every for row in cell.ended if row.shares}
    if shared:
        named = [f"{name}: {count(row.ranks, 'rank')}, room for {row.slots}" for name, row in shared.items()]
        cure = "Trust the epochs of these cells, not their speed; no speed-up or efficiency is computed from them."
        found.append(f"Ranks share cores or GPUs ({_few(named, '; ')}). {cure}")
    found += [f"{row.job}: slow ranks: {'; '.join(row.stragglers)}." for row in rows if row.stragglers]
    few = [cell for cell in every if 0 < len(cell.ended) < ENOUGH]
    if few:
        fewer = f"fewer than {ENOUGH} runs that ended: plain means, no run dropped"
        found.append(f"{len(few)} of {count(len(every), 'cell')} {'has' if len(few) == 1 else 'have'} {fewer}.")
    return found


def _few(names: Sequence[str], between: str) -> str:
    more = f" and {len(names) - FEW} more" if len(names) > FEW else ""
    return between.join(names[:FEW]) + more
