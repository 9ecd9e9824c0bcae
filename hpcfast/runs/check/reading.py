"""Events as a checker reads them: with their lines, and with what is none."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Fault = tuple[int, str]
"""The line of the log, and what cannot be."""


@dataclass(frozen=True)
class Event:
    """A line of ``events.jsonl``; see docs/clock.md."""

    line: int
    time: float
    """Seconds since 1970."""
    key: str
    value: Any
    step: int
    epoch: float


def read(path: Path) -> tuple[list[Event], list[Fault]]:
    """All events of a log, and the lines that are none.

    A kill may cut a line off: then a process that goes on, or nothing, follows.
    """
    events, faults, cut = [], [], 0
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
        event = _event(number, line)
        if cut and (event is None or event.key != "init_start"):
            faults.append((cut, "is no event"))
        cut = number if event is None else 0
        if event:
            events.append(event)
    if cut:
        faults.append((cut, "is no event; nothing follows it"))
    return events, faults


def _event(number: int, line: str) -> Event | None:
    try:
        found = json.loads(line)
        event = Event(number, *(found[key] for key in ("time", "key", "value", "step", "epoch")))
    except (ValueError, KeyError, TypeError):
        return None
    numbers = isinstance(event.time, int | float) and isinstance(event.epoch, int | float)
    return event if numbers and isinstance(event.step, int) and isinstance(event.key, str) else None
