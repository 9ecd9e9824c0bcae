"""The run's log: ``events.jsonl``, one JSON object a line, written by rank 0.

Keys follow MLPerf logging's discipline: each phase has a ``…_start`` and a ``…_stop``, and values are recorded
under fixed names (``train_loss``, ``learning_rate``, ``clean_accuracy``, …).
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcfast.runs.reading import loads

Fault = tuple[int, str]
"""The line of a log, and what cannot be."""
KEYS = ("time", "key", "value", "step", "epoch")
LATEST, MOST = 1e11, 1e12
"""A time (in the year 5138) and a step or epoch that no run gets to."""


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


class EventLog:
    """Append-only log; a run that is resumed goes on in the same file. Without a path it records nothing."""

    def __init__(self, path: Path | None) -> None:
        self._file = path.open("a", buffering=1) if path else None
        self.listeners: list[Callable[[dict[str, Any]], None]] = []
        """Called with each event that has been written."""
        if self._file and path and path.read_bytes()[-1:] not in (b"", b"\n"):
            self._file.write("\n")  # after a line that a kill cut off

    def write(self, key: str, value: Any = None, *, step: int, epoch: float, at: float | None = None) -> None:
        """Record ``value`` under ``key`` with the wall-clock time ``at`` (seconds since 1970; default: now)."""
        if self._file:
            now = time.time() if at is None else at
            event = {"time": now, "key": key, "value": value, "step": step, "epoch": round(epoch, 6), "rank": 0}
            try:
                self._file.write(json.dumps(event) + "\n")
            except OSError as error:
                error.filename = str(self._file.name)  # of a file that is open Python doesn't know it
                raise
            for tell in self.listeners:
                tell(event)


def read(path: Path) -> list[dict[str, Any]]:
    """All whole events of a log; a last line cut off by a kill is left out."""
    lines = path.read_text(errors="replace").splitlines() if path.is_file() else []
    return [event for line in lines if (event := _whole(line)) is not None]


def read_numbered(path: Path) -> tuple[list[Event], list[Fault]]:
    """All events of a log, and the lines that are none.

    A kill may cut a line off: then a process that goes on, or nothing, follows.
    """
    events, faults, cut = [], [], 0
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
        found = _whole(line)
        event = Event(number, *(found[key] for key in KEYS)) if found else None
        if cut and (event is None or event.key != "init_start"):
            faults.append((cut, "is no event"))
        cut = number if event is None else 0
        if event:
            events.append(event)
    if cut:
        faults.append((cut, "is no event; nothing follows it"))
    return events, faults


def _whole(line: str) -> dict[str, Any] | None:
    """The event that a line is, or None."""
    try:
        found: dict[str, Any] = loads(line)
        moment, key, _, step, epoch = (found[key] for key in KEYS)
    except (ValueError, KeyError, TypeError):
        return None
    limits = ((moment, int | float, LATEST), (step, int, MOST), (epoch, int | float, MOST))
    sound = isinstance(key, str) and all(isinstance(n, kind) and 0 <= n <= most for n, kind, most in limits)
    return found if sound else None
