"""How a job ends: it has failed, or its work goes on in another job.

Only the standard library, from Python 3.8 on: see hpcfast/cluster/job.py.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from hpcfast.cluster import slurm
from hpcfast.errors import UserError

STOPPED = 75


class Failed(Exception):
    """The job ends with this code; the ranks have said why."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def fail(code: int) -> NoReturn:
    """End the job."""
    where = f"{os.environ['SLURM_JOB_NODELIST']}, start {restarts() + 1}"
    say(f"== FAILED with code {code} on {where}: the first error above has rank, host and cause")
    if code == 2:
        say("== the message above says what to change; nothing was lost")
    else:
        say("== the same sbatch command goes on from the last checkpoint")
    raise Failed(code)


def again(given: Sequence[str], why: str, exclude: Sequence[str] = ()) -> None:
    """End this job so that the work goes on in another: the same, requeued, or one that follows.

    Args:
        given: the batch script and its arguments.
        why: what has come between.
        exclude: nodes that are not to be used.

    Raises:
        Failed: it was requeued, or should have been.
        UserError: it does not go on by itself, with the reason.
    """
    how, most = os.environ["HPCFAST_AGAIN"], int(os.environ["HPCFAST_MAX_REQUEUES"])
    job = slurm.show(slurm.this_job())
    if job["JobState"] != "RUNNING":
        raise UserError(f"job is {job['JobState']}")
    if how == "never" or restarts() >= most:
        raise UserError(f"HPCFAST_AGAIN={how}, {restarts()} of at most {most} restarts")
    without = ",".join([*filter(None, [job.get("ExcNodeList")]), *exclude]) if exclude else ""
    left_out = f", without {','.join(exclude)}" if exclude else ""
    say(f"== {why}: {how}, restart {restarts() + 1} of at most {most}{left_out}")
    if how == "requeue":
        requeue(without)
    options = {**slurm.options_of(job), "dependency": f"afterany:{slurm.this_job()}"}
    if without:
        options["exclude"] = without
    file, *arguments = given
    following = slurm.sbatch(options, Path(file), *arguments, HPCFAST_RESTARTS=str(restarts() + 1))
    say(f"== submitted job {following}, which goes on")


def requeue(without: str) -> None:
    """Have Slurm run this job again, on other nodes than these, which ends it; returns where Slurm does not."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        slurm.run(["scontrol", "requeue", slurm.this_job()])
    except UserError as error:
        say(f"== {error}: submitting it again")
        return
    if without:  # Slurm takes this of jobs that wait only
        try:
            slurm.run(["scontrol", "update", f"JobId={slurm.this_job()}", f"ExcNodeList={without}"])
        except UserError as error:
            say(f"== {error}: all nodes may be used")
    signal.sigtimedwait({signal.SIGTERM}, 60)  # Slurm ends this script
    raise Failed(STOPPED)


def restarts() -> int:
    """How often this work was started before, by requeueing or by jobs that follow one another."""
    return sum(int(os.environ.get(name) or 0) for name in ("HPCFAST_RESTARTS", "SLURM_RESTART_COUNT"))


def say(line: str) -> None:
    """Write it into the job's log."""
    sys.stdout.write(f"{line}\n")  # in one piece: ranks write there too
    sys.stdout.flush()
