"""A long run on many nodes: failures, checkpoints, requeues, time limits - what no small study shows.

One job has one timeline, and failures of nodes are independent and memoryless (exponential): the first failure of N
nodes is exponential too, N times as soon, and nothing that matters happens between two events. So the simulation jumps
from one end of a job to the next, for all its repetitions at once. A general simulator of events would step through
them one by one, some thousand times slower, and would be one more requirement.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hpcfast.errors import UserError

Times = NDArray[np.float64]
HOPELESS = 100.0
"""A run that is expected to take this many times its work does not end."""


@dataclass(frozen=True)
class Job:
    """A run on ``nodes``; all times in seconds."""

    nodes: int
    work: float
    """Of training, if nothing fails and no checkpoint is written."""
    mtbf: float
    """Mean time between failures of one node; ``math.inf``: none fails."""
    checkpoint: float
    """Writing one keeps the run waiting so long."""
    restart: float
    """From the start of a job that goes on from a checkpoint to its first step."""
    queue: float = 0.0
    """From the end of a job to the start of the next."""
    limit: float = math.inf
    """Of a job; hpcfast stops in time for a last checkpoint."""

    @property
    def failing(self) -> float:
        """Mean time to the first failure of any node."""
        return self.mtbf / self.nodes


@dataclass(frozen=True)
class Outcome:
    """Of all repetitions: wall-clock seconds of a run, its failures, and its seconds of useful work a second."""

    interval: float
    """Of work between checkpoints."""
    times: Times
    failures: float
    """Mean number."""
    useful: float

    @property
    def mean(self) -> float:
        """Expected wall-clock seconds."""
        return float(np.mean(self.times))

    @property
    def error(self) -> float:
        """Standard error of ``mean``."""
        return float(np.std(self.times, ddof=1) / math.sqrt(len(self.times)))


def young(checkpoint: float, failing: float) -> float:
    """Seconds of work between checkpoints that lose least (Young 1974, "A first order approximation …", CACM 17(9))."""
    return math.sqrt(2 * checkpoint * failing)


def daly(checkpoint: float, failing: float) -> float:
    """The same to higher order (Daly 2006, "A higher order estimate of the optimum checkpoint interval …", FGCS 22)."""
    if checkpoint >= 2 * failing or math.isinf(failing):
        return failing
    part = checkpoint / (2 * failing)
    return young(checkpoint, failing) * (1 + math.sqrt(part) / 3 + part / 9) - checkpoint


def expected(job: Job, interval: float) -> float:
    """Daly's closed form of the expected run time, without queue and limit: M e^(R/M) (e^((t+C)/M) - 1) W / t.

    Exact if ``interval`` divides ``work``: failures can strike during checkpoints and restarts too.
    """
    mean = job.failing
    if math.isinf(mean):
        return job.work * (1 + job.checkpoint / interval)
    exponent = (interval + job.checkpoint) / mean
    if exponent + job.restart / mean > 50:
        return math.inf
    return mean * math.exp(job.restart / mean) * math.expm1(exponent) * job.work / interval


def run(job: Job, interval: float, repetitions: int = 1000, seed: int = 0) -> Outcome:
    """Simulate ``repetitions`` runs with a checkpoint after every ``interval`` seconds of work, and at the end.

    The same seed draws the same failures for any interval, so that intervals can be compared.

    Raises:
        UserError: such a run would hardly ever end.
    """
    _refuse_hopeless(job, interval)
    random = np.random.default_rng((seed, job.nodes))
    left = np.full(repetitions, job.work)
    clock, failures = np.zeros(repetitions), np.zeros(repetitions)
    first = True
    while (going := left > 0).any():
        up = random.exponential(1.0, repetitions) * job.failing
        begin = 0.0 if first else job.restart
        need = begin + left + np.ceil(left / interval) * job.checkpoint
        failed = up < np.minimum(need, job.limit)
        stopped = ~failed & (need > job.limit)
        done = left.copy()
        done[failed] = _saved(job, interval, up[failed] - begin, orderly=False)
        done[stopped] = _saved(job, interval, np.full(stopped.sum(), job.limit - begin), orderly=True)
        spent = np.where(failed, up, np.minimum(need, job.limit))
        clock += going * (spent + (failed | stopped) * job.queue)
        failures += going & failed
        left = np.where(left - done > 1e-9 * job.work, left - done, 0.0)
        first = False
    return Outcome(interval, clock, float(failures.mean()), float(job.work / clock.mean()))


def _saved(job: Job, interval: float, time: Times, orderly: bool) -> Times:
    """Seconds of work that checkpoints hold after ``time`` of working; an ``orderly`` end writes one more."""
    whole = np.floor(np.maximum(time, 0.0) / (interval + job.checkpoint))
    if not orderly:
        return whole * interval
    rest = time - whole * (interval + job.checkpoint) - job.checkpoint
    return whole * interval + np.clip(rest, 0.0, interval)


def _refuse_hopeless(job: Job, interval: float) -> None:
    if job.limit <= job.restart + job.checkpoint:
        raise UserError(
            f"a limit of {job.limit:g} s a job leaves no time to work: {job.restart:g} s to restart, "
            f"{job.checkpoint:g} s for a checkpoint; give a longer one"
        )
    if expected(job, min(interval, job.work)) > HOPELESS * job.work:
        raise UserError(
            f"{job.nodes} nodes fail every {job.failing:g} s, with a checkpoint of {job.checkpoint:g} s after every "
            f"{interval:g} s and a restart of {job.restart:g} s: the run would not end; give fewer nodes or faster ones"
        )


def best(job: Job, repetitions: int = 1000, seed: int = 0) -> Outcome:
    """The interval that simulates best, of a quarter of Daly's to four times it.

    Raises:
        UserError: none lets the run end.
    """
    middle = min(daly(job.checkpoint, job.failing), job.work)
    tried = [interval for factor in np.geomspace(0.25, 4, 9) if (interval := float(middle * factor)) <= job.work]
    outcomes = []
    for interval in sorted({*tried, middle}):
        try:
            outcomes.append(run(job, interval, repetitions, seed))
        except UserError:
            if interval == middle:
                raise
    return min(outcomes, key=lambda outcome: outcome.mean)
