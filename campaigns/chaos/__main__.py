"""``python -m campaigns.chaos --seed 0 --minutes 30 --every 60``: writes runs/chaos/seed-0; exits with 1 if wrong."""

import argparse
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from random import Random

import psutil

from . import job as jobs
from . import report
from .faults import KINDS
from .record import Record

GOAL = 0.7
"""The share of the time that is to be training: with it, a run is done when there have been faults for so long."""
EFFECT = 15.0
"""Seconds after a fault until the next: what the first has done shows by then."""
DONE = 900
"""Seconds for what is left of a run when no fault comes any more."""


def main() -> int:
    """The command line; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m campaigns.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=30, help="how long there are faults")
    parser.add_argument("--every", type=float, default=60, help="seconds between faults, on average")
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    folder = given.out or Path("runs", "chaos", f"seed-{given.seed}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that blocks end: everything is torn down
    epochs = max(2, round(GOAL * 60 * given.minutes / jobs.PACE / jobs.STEPS))
    with jobs.cluster() as cluster, Record(folder, cluster.path) as record:
        job = jobs.Job(cluster, "chaos", epochs, record, CHAOS_PACE=str(jobs.PACE))
        job.submit("the beginning")
        disturb(job, Random(given.seed), given.minutes * 60, given.every, given.kinds)
        record.note("over", "no more faults")
        job.until(lambda: job.finished, DONE)
        job.until(lambda: job.gone, 60)
        quiet = jobs.Job(cluster, "quiet", epochs, record)
        quiet.submit("the same, undisturbed")
        quiet.until(lambda: quiet.finished and quiet.gone, DONE)
        shutil.copy(job.run / "events.jsonl", folder)
        faults = report.examine(job, quiet)
        (folder / "checks.txt").write_text("".join(f"{fault}\n" for fault in faults))
    text = report.page([folder])
    print(text)
    return int(bool(faults))


def disturb(job: jobs.Job, random: Random, seconds: float, every: float, kinds: list[str]) -> None:
    """Do one fault after another, each kind once before any comes again, until the time is over or the run done."""
    job.until_training()
    end, due, left = time.monotonic() + seconds, time.monotonic(), list[str]()
    while not job.finished and due < end:
        left = left or random.sample(kinds, len(kinds))
        due = max(due + random.uniform(0.5, 1.5) * every, time.monotonic() + EFFECT)
        job.pass_time(due)
        job.until_training()
        if not job.finished:
            one(job, left.pop(), random)


def one(job: jobs.Job, name: str, random: Random) -> None:
    """Do one fault to a rank, and mend it when its time is over, or its owner must."""
    kind = KINDS[name]
    rank, other = random.sample(range(jobs.NODES), 2)
    ranks = job.ranks()
    if len(ranks) != jobs.NODES:  # it ended by itself a moment ago
        return job.record.note("skipped", name, why=f"{len(ranks)} ranks run")
    chosen = ranks[rank], ranks[other]
    where = {"rank": rank, "node": chosen[0].node, "other": chosen[1].node, "step": job.step()}
    where |= {"load": os.getloadavg()[0], "time": time.time()}
    try:
        with kind.inject(job, *chosen):
            job.record.note("fault", name, **where)
            until = time.monotonic() + kind.seconds
            job.until(lambda: time.monotonic() > until or (kind.person and job.gone), tend=not kind.person)
        job.record.note("mended", name)
    except (jobs.Impossible, ProcessLookupError, psutil.Error) as error:
        job.record.note("skipped", name, why=str(error))


if __name__ == "__main__":
    sys.exit(main())
