"""How often a run fails, by its own log, and how often it should therefore be saved.

Young 1974, "A first order approximation to the optimum checkpoint interval", CACM 17; Daly 2006, "A higher order
estimate of the optimum checkpoint interval for restart dumps", FGCS 22. Failures are independent and without memory.
"""

import math
import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

PRIOR = 24 * 3600.0
"""Seconds until one node fails, before anything is known: as if there had been one failure in so much time."""
RECENT = 9
"""Checkpoints that say how long the next takes."""
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
    nodes: int = 1
    began: float = field(default_factory=time.monotonic)
    """When this process did, by its own clock."""

    @classmethod
    def of(cls, events: Iterable[dict[str, Any]], nodes: int) -> "History":
        """That of a log: ``events`` of :func:`hpcfast.runs.events.read`, from before this process, on ``nodes``."""
        history, before, asked = cls(nodes=nodes), {"key": "", "time": math.nan}, True
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

    @property
    def mean_time(self) -> float:
        """Seconds between failures, estimated from the log and from this process."""
        return (PRIOR / self.nodes + self.seconds + time.monotonic() - self.began) / (1 + self.failures)

    @property
    def checkpoint(self) -> float:
        """Seconds that the next checkpoint will keep the run waiting: the median of the latest."""
        return statistics.median(self.checkpoints[-RECENT:])

    @property
    def interval(self) -> float:
        """Seconds of work between checkpoints that lose least; 0 before the first has shown how long one takes."""
        return interval(self.checkpoint, self.mean_time) if self.checkpoints else 0.0
