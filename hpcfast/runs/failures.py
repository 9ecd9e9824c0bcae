"""How often a run fails, by its own log, and how often it should therefore be saved.

Young 1974, "A first order approximation to the optimum checkpoint interval", CACM 17; Daly 2006, "A higher order
estimate of the optimum checkpoint interval for restart dumps", FGCS 22. Failures are independent and without memory.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

PRIOR = 24 * 3600.0
"""Seconds until one node fails, before anything is known: as if there had been one failure in so much time."""
ASKED = ("run_interrupted", "run_stop")
"""What a process records that was asked to end, or is done."""


def interval(checkpoint: float, mean: float) -> float:
    """Seconds of work between checkpoints that lose least (Daly's estimate).

    Args:
        checkpoint: seconds that writing one keeps the run waiting.
        mean: seconds between failures of the whole run.
    """
    if checkpoint >= 2 * mean:
        return mean
    part = checkpoint / (2 * mean)
    return math.sqrt(2 * checkpoint * mean) * (1 + math.sqrt(part) / 3 + part / 9) - checkpoint


@dataclass
class History:
    """What a run has been through before this process."""

    failures: int = 0
    """Processes that ended without being asked to."""
    seconds: float = 0.0
    """In which one ran."""
    checkpoints: list[float] = field(default_factory=list)
    """Seconds that each kept the run waiting."""

    @classmethod
    def of(cls, events: Iterable[dict[str, Any]]) -> "History":
        """That of a log: ``events`` of :func:`hpcfast.runs.events.read`, from before this process."""
        history, before, asked = cls(), {"key": "", "time": math.nan}, True
        for event in events:
            key, since = event["key"], event["time"] - before["time"]
            if key == "init_start":
                history.failures += not asked
                asked = False
            else:
                history.seconds += since
            if (before["key"], key) == ("checkpoint_start", "checkpoint_stop"):
                history.checkpoints.append(since)
            asked, before = asked or key in ASKED, event
        history.failures += not asked  # the last, which this process follows
        return history

    def mean(self, nodes: int, running: float) -> float:
        """Seconds between failures, estimated from the log and from this process, ``running`` for so long."""
        return (PRIOR / nodes + self.seconds + running) / (1 + self.failures)
