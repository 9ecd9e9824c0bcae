"""The run's log: ``events.jsonl``, one JSON object a line, written by rank 0.

Keys follow MLPerf logging's discipline: each phase has a ``…_start`` and a ``…_stop``, and values are recorded
under fixed names (``train_loss``, ``learning_rate``, ``clean_accuracy``, …).
"""

import json
import time
from pathlib import Path
from typing import Any


class EventLog:
    """Append-only log; a run that is resumed goes on in the same file. Without a path it records nothing."""

    def __init__(self, path: Path | None) -> None:
        self._file = path.open("a", buffering=1) if path else None
        if self._file and path and path.read_bytes()[-1:] not in (b"", b"\n"):
            self._file.write("\n")  # after a line that a kill cut off

    def write(self, key: str, value: Any = None, *, step: int, epoch: float, at: float | None = None) -> None:
        """Record ``value`` under ``key`` with the wall-clock time ``at`` (seconds since 1970; default: now)."""
        if self._file:
            now = time.time() if at is None else at
            event = {"time": now, "key": key, "value": value, "step": step, "epoch": round(epoch, 6), "rank": 0}
            self._file.write(json.dumps(event) + "\n")


def read(path: Path) -> list[dict[str, Any]]:
    """All whole events of a log; a last line cut off by a kill is left out."""
    lines = path.read_text().splitlines() if path.is_file() else []
    events = []
    for line in lines:
        try:
            events.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return events
