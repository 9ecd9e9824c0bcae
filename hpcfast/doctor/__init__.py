"""``hpcfast doctor``: what is wrong with a machine or a cluster, and what to do about it."""

import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from hpcfast.distributed import comm
from hpcfast.doctor import job, node
from hpcfast.doctor.finding import Answer, Answers, Check, Finding, Job, hosts
from hpcfast.runs import progress

CHECKS: tuple[Check, ...] = (*node.CHECKS, *job.CHECKS)
STYLES = {"ok": "green", "warn": "yellow", "bad": "bold red", "not here": "dim"}


def examine(
    world: comm.World, folder: Path, quick: bool = False, checks: Sequence[Check] = CHECKS
) -> dict[str, Finding]:
    """Run ``checks`` on all ranks; ``folder`` is where runs are to be written. A collective.

    Returns:
        A finding for each check, by name, on rank 0; nothing on the others.
    """
    asked = Job(world, folder.absolute(), quick)
    host = socket.gethostname()
    mine = [attempt(partial(check.probe, asked)) for check in checks]
    plain = [
        (tuple(value) if check.kind and value else value, error)
        for check, (value, error) in zip(checks, mine, strict=True)
    ]
    everyone = comm.gather((host, plain))
    if not world.is_root:
        return {}
    return {check.name: judge(check, list(_answers(check, i, everyone))) for i, check in enumerate(checks)}


def _answers(check: Check, place: int, everyone: list[tuple[str, list[tuple[Any, str]]]]) -> Iterator[Answer]:
    """All ranks' answers to the check that has this place in their lists."""
    for rank, (host, answers) in enumerate(everyone):
        value, error = answers[place]
        yield Answer(rank, host, check.kind(*value) if check.kind and value else value, error)


def judge(check: Check, answers: Answers) -> Finding:
    """The finding of ``check``, also where a probe or the judgement itself failed."""
    failed = [answer for answer in answers if answer.error]
    if failed:
        told = f"{failed[0].error} (on {hosts(failed)})"
        return Finding(told, "bad", "read the message; if it does not help, ask the administrators, or report it")
    finding, error = attempt(partial(check.judge, answers))
    return finding or Finding(f"the check itself failed: {error}", "warn", "please report this")


def attempt(work: Callable[[], Any]) -> tuple[Any, str]:
    """The result of ``work`` and '', or None and what went wrong: one check must not stop the others."""
    try:
        return work(), ""
    except Exception as error:
        if comm.lost_a_peer(error):
            raise
        return None, f"{type(error).__name__}: {error}"


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
