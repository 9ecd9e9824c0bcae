"""What a check is: a probe that every rank runs, and a judgement of all ranks' answers, made on rank 0.

Probes only measure and judgements only judge, so a fault that no test machine has can be put to a judgement by hand.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from hpcfast.distributed.comm import World

SHOWN = 8
"""Hosts that a finding lists; there may be thousands."""


@dataclass(frozen=True)
class Finding:
    """What a check found; ``cure`` says what to do where it is not ok, ``numbers`` is for programs."""

    value: str
    verdict: Literal["ok", "warn", "bad", "not here"] = "ok"
    cure: str = ""
    numbers: dict[str, float] = field(default_factory=dict)


class Job(NamedTuple):
    """What probes may look at; ``folder`` is where runs are to be written."""

    world: World
    folder: Path
    quick: bool


class Answer(NamedTuple):
    """One rank's answer to a probe, or the error that the probe ended with."""

    rank: int
    host: str
    value: Any
    error: str = ""


Answers = Sequence[Answer]
"""Of all ranks, by rank."""


class Check(NamedTuple):
    """One row of the table."""

    name: str
    probe: Callable[[Job], Any]
    """Run by all ranks at the same time, so that it may communicate; it must do so even where it finds a fault."""
    judge: Callable[[Answers], Finding]
    kind: Callable[..., Any] | None = None
    """Of what the probe returns, if that is a named tuple: only plain values travel between ranks."""


def same(answers: Answers, cure: str) -> Finding:
    """Ok where all ranks gave the same answer (None: there is no such thing); else bad, naming those that differ."""
    counts = Counter(answer.value for answer in answers)
    most = counts.most_common(1)[0][0]
    if others := [value for value in counts if value != most]:
        told = "; ".join(f"{value} on {hosts([each for each in answers if each.value == value])}" for value in others)
        return Finding(f"{most}, but {told}", "bad", cure)
    return Finding("not used", "not here") if most is None else Finding(most)


def hosts(answers: Answers) -> str:
    """The hosts of ``answers``, each once, in words."""
    names = list(by_host(answers))
    return ", ".join(names[:SHOWN]) + f" and {len(names) - SHOWN} more" * (len(names) > SHOWN)


def by_host(answers: Answers) -> dict[str, list[Answer]]:
    """The answers of each host's ranks."""
    groups: dict[str, list[Answer]] = {}
    for answer in answers:
        groups.setdefault(answer.host, []).append(answer)
    return groups
