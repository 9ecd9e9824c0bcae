"""What failures of nodes cost a long run, which no small study shows.

Daly 2006, "A higher order estimate of the optimum checkpoint interval for restart dumps", FGCS 22: nodes fail
independently and without memory, the work since the last checkpoint is lost, and failures can strike during
checkpoints and restarts too. Queues and time limits are not in it.
"""

import math
from typing import NamedTuple


class Failures(NamedTuple):
    """All times in seconds."""

    mtbf: float
    """Mean time between failures of one node."""
    checkpoint: float
    """Writing one keeps the run waiting so long."""
    restart: float
    """From a failure to the next step."""

    def interval(self, nodes: int) -> float:
        """Seconds of work between checkpoints that lose least."""
        mean = self.mtbf / nodes
        if self.checkpoint >= 2 * mean:
            return mean
        part = self.checkpoint / (2 * mean)
        return math.sqrt(2 * self.checkpoint * mean) * (1 + math.sqrt(part) / 3 + part / 9) - self.checkpoint

    def expected(self, nodes: int, work: float) -> float:
        """Seconds that ``work`` takes with checkpoints at the best interval; infinite where it would hardly end."""
        mean, interval = self.mtbf / nodes, min(self.interval(nodes), work)
        exponent = (interval + self.checkpoint) / mean
        if exponent + self.restart / mean > 50:
            return math.inf
        return mean * math.exp(self.restart / mean) * math.expm1(exponent) * work / interval
