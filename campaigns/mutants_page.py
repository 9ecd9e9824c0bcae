"""The section of docs/testing.md that a campaign of ``campaigns/mutants.py`` writes."""

import datetime
import subprocess
from collections import Counter
from pathlib import Path

PAGE = Path("docs") / "testing.md"


def write(root: Path, seed: int, rows: list[tuple[str, str, str, str]]) -> None:
    """Put the section of ``seed`` in the page, in place of an older one; rows are (area, place, change, test)."""
    page = root / PAGE
    text = page.read_text() if page.exists() else ""
    begin, end = f"<!-- mutants {seed} -->\n", f"<!-- end of mutants {seed} -->\n"
    section = begin + _section(root, seed, rows) + end
    if begin in text:
        before, rest = text.split(begin, 1)
        text = before + section + rest.split(end, 1)[1]
    else:
        text += "\n" + section
    page.write_text(text)
    print(f"wrote {PAGE}")


def _section(root: Path, seed: int, rows: list[tuple[str, str, str, str]]) -> str:
    commit = subprocess.check_output(["git", "describe", "--always", "--dirty"], cwd=root, text=True).strip()
    killed, total = (Counter(area for area, *_, by in rows if by or every) for every in (False, True))
    areas = ", ".join(f"{area} {killed[area]} of {total[area]}" for area in total)
    lines = [
        f"## {killed.total()} of {len(rows)} mutants killed, seed {seed}",
        "",
        f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}, commit {commit}, "
        f"`python campaigns/mutants.py --count {len(rows)} --seed {seed}`: {areas}.",
        "",
        "| function | line | it reads | instead of | killed by |",
        "|---|---|---|---|---|",
        *(f"| {place} | {change} | {by or '**survives**'} |" for _, place, change, by in rows),
    ]
    return "\n".join(lines) + "\n"


def code(text: str, most: int = 60) -> str:
    """``text`` as code in a table's cell, cut where it is long."""
    line = " ".join(text.split())
    line = line if len(line) <= most else line[: most - 1] + "…"
    return f"`{line.replace('|', chr(92) + '|')}`"
