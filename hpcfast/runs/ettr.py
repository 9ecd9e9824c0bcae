"""What share of a run's time has trained it: the effective training time ratio.

ETTR is productive training time over wall time (ByteRobust, arXiv 2509.16293). Here steps are productive
that are part of the weights in the end: whatever was lost in a crash or undone by a rollback is not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

Event = dict[str, Any]

PARTS = (
    *("training", "repeated", "start", "checkpoint", "evaluation"),
    *("waiting", "queue", "down", "other"),
)
"""What a run's wall time is spent on; docs/timeline.md has their meaning."""
PHASES = {"epoch": "training", "checkpoint": "checkpoint", "eval": "evaluation"}
OFF_THE_CLOCK = ("final", "confirm")


@dataclass(frozen=True)
class Account:
    """Where the wall time of a run went, over all its processes: from the first start to the end of training."""

    seconds: dict[str, float]
    """By part, see PARTS."""
    starts: int

    @property
    def wall(self) -> float:
        return sum(self.seconds.values())

    @property
    def ratio(self) -> float:
        """The effective training time ratio, a fraction."""
        return self.seconds["training"] / self.wall if self.wall else 0.0

    def summary(self) -> dict[str, Any]:
        """For ``summary.json``."""
        return {"ratio": self.ratio, "starts": self.starts, "seconds": self.seconds}


class _Book:
    """The intervals between events, as they are read one by one."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self._steps: list[tuple[int, int, float]] = []
        """Intervals of training that count so far: the step before, the step after, seconds."""
        self._open: list[str] = []
        self._part = "start"

    def add(self, before: Event, event: Event) -> None:
        """Book the time between two events that follow one another."""
        span, key = max(0.0, event["time"] - before["time"]), event["key"]
        if key == "init_start":
            self._gap(before, event, span)
        elif key == "run_aborted":
            waited = min(span, event["value"]["waited"])
            self.seconds["waiting"] += waited
            self._spend(before, event, span - waited)
        elif key == "guard":
            self.seconds["evaluation"] += span
        else:
            self._spend(before, event, span)
        self._enter(event)

    def _gap(self, before: Event, event: Event, span: float) -> None:
        """From the last word of a process to the first of the next."""
        began = (event["value"] or {}).get("job_started", 0.0)
        queued = min(span, max(0.0, began - before["time"]))
        self.seconds["queue"] += queued
        self.seconds["start" if queued else "down"] += span - queued

    def _spend(self, before: Event, event: Event, span: float) -> None:
        if self._part == "training":
            self._steps.append((before["step"], event["step"], span))
        else:
            self.seconds[self._part] += span

    def _enter(self, event: Event) -> None:
        """What the time after ``event`` is spent on."""
        key = event["key"]
        phase, _, edge = key.rpartition("_")
        if key == "init_start":
            self._open, self._part = [], "start"
        elif key in ("init_stop", "rollback"):
            self._undo(event["step"])
        elif phase in PHASES and edge == "start":
            self._open.append(phase)
        elif phase in self._open:
            del self._open[self._open.index(phase) :]
        if key not in ("init_start", "init_stop"):
            self._part = PHASES[self._open[-1]] if self._open else "other"

    def _undo(self, step: int) -> None:
        """The run is at ``step`` again: what it has trained since counts no more."""
        while self._steps and self._steps[-1][1] > step:
            before, after, span = self._steps.pop()
            kept = max(0, step - before) / (after - before) if after > before else 0.0
            self.seconds["repeated"] += span * (1 - kept)
            if kept:
                self._steps.append((before, step, span * kept))

    def close(self) -> dict[str, float]:
        trained = sum(span for *_, span in self._steps)
        return self.seconds | {"training": self.seconds["training"] + trained}


def account(events: Sequence[Event]) -> Account:
    """Divide the time of a run, finished or not, among PARTS; they add up to its wall time.

    What a process that was killed did after its last event counts as ``down``; so does what comes between two
    processes, unless a batch job says when it began. Evaluations after training are off the clock (docs/clock.md).

    Args:
        events: lines of ``events.jsonl``, in order (:func:`hpcfast.runs.events.read`).
    """
    book = _Book()
    for before, event in pairwise(_on_the_clock(events)):
        book.add(before, event)
    return Account(book.close(), sum(event["key"] == "init_start" for event in events))


def _on_the_clock(events: Sequence[Event]) -> Sequence[Event]:
    """All but what comes after training."""
    trained = max((i for i, event in enumerate(events) if event["key"] == "epoch_start"), default=0)
    for i, event in enumerate(events[trained:], trained):
        if event["key"] == "eval_start" and event["value"] in OFF_THE_CLOCK:
            return events[: i + 1]
    return events
