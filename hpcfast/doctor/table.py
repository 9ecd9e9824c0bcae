"""Findings as a table for the terminal and as JSON."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rich.table import Table
from rich.text import Text

from hpcfast.doctor.finding import Finding
from hpcfast.runs import progress

STYLES = {"ok": "green", "warn": "yellow", "bad": "bold red", "not here": "dim"}


def table(findings: Mapping[str, Finding], caption: str) -> Table:
    """A row a finding; below one that is not ok stands its cure."""
    cells = []
    for name, finding in findings.items():
        style = STYLES[finding.verdict]
        # Text: what a machine says may hold brackets, which rich would interpret as its own markup
        found = Text(finding.value, style if finding.verdict != "ok" else "")
        if finding.cure:
            found.append(f"\n-> {finding.cure}", "default")
        cells.append((Text(name), Text(finding.verdict, style), found))
    return progress.table(("check", "", "found"), cells, caption, left=3)


def rows(findings: Mapping[str, Finding]) -> list[dict[str, Any]]:
    """The same for programs."""
    return [{"name": name, **asdict(finding)} for name, finding in findings.items()]


def verdict(findings: Mapping[str, Finding]) -> str:
    """The names of what is bad, in words; '' where nothing is."""
    return ", ".join(name for name, finding in findings.items() if finding.verdict == "bad")
