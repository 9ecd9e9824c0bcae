"""How long jobs will take, by those of their kind that are done."""

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable

from hpcfast.scaling.jobs import Job, Kind


class Estimates:
    """Seconds a job, start and confirmation included: the mean of those of its kind that are done."""

    def __init__(self, jobs: Iterable[Job]) -> None:
        self._seen: dict[Kind, list[float]] = defaultdict(list)
        for job in jobs:
            self.add(job)

    def add(self, job: Job) -> None:
        """Take a job into account, if it is done."""
        if job.seconds is not None:
            self._seen[job.kind].append(job.seconds)

    def of(self, kind: Kind) -> float | None:
        """Seconds of a job, None while none of this kind is done."""
        return statistics.mean(self._seen[kind]) if self._seen.get(kind) else None

    def sum(self, jobs: Iterable[Job], share: Callable[[Job], float] = lambda job: 1.0) -> float | None:
        """Seconds of all ``jobs``, each taking a ``share`` of the machine; None before one of each kind is done."""
        each = [(self.of(job.kind), share(job)) for job in jobs]
        known = [seconds * part for seconds, part in each if seconds is not None]
        return sum(known) if len(known) == len(each) else None


def words(seconds: float) -> str:
    """``40 s``, ``12 min``, ``3.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
