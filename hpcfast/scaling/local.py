"""A study on this machine: one job after another, each on as many cores as it has threads."""

import fcntl
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import psutil

from hpcfast.scaling import collect
from hpcfast.scaling.estimate import Estimates, words
from hpcfast.scaling.jobs import START, Job
from hpcfast.stop import Stopped, StopRequest

GRACE = 30.0
"""Seconds that a job has to end by itself."""
TOO_LONG = 124
"""The exit code of a job that was ended for that, as of timeout(1)."""


def run(jobs: list[Job], say: Callable[[str], None]) -> None:
    """Execute those of ``jobs`` that are not done, each anew: a gap would count in its time to robust accuracy.

    Raises:
        Stopped: a signal asked for it; the job that was running has been ended.
    """
    with StopRequest() as stop, (jobs[0].study.folder / ".job").open("w") as running:
        _wait_for_an_orphan(running, say)
        estimates = Estimates(jobs)
        pending = [job for job in jobs if job.state != "done"]
        for number, job in enumerate(pending):
            place = f"[{len(jobs) - len(pending) + number + 1}/{len(jobs)}] {job.name}"
            left = estimates.sum(pending[number:])
            say(f"{place} …{f'  (about {words(left)} left in all)' if left is not None else ''}")
            seconds = _execute(job, stop, running)
            if stop.requested:
                raise Stopped(f"{job.name} was ended; the same command begins it anew and goes on from there")
            row = collect.row(job)
            ended = f"{row.ttra:.1f} s to the target" if row.ttra is not None else row.note
            say(f"{place} {row.status}: {ended} ({seconds:.0f} s in all)")
            estimates.add(job)


def _wait_for_an_orphan(running: TextIO, say: Callable[[str], None]) -> None:
    """A study that was killed (SIGKILL) leaves its job behind, which holds the file ``running`` while it lives."""
    try:
        fcntl.flock(running, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("waiting for the job of a study that was killed, which still runs …")
        fcntl.flock(running, fcntl.LOCK_EX)


def command(job: Job) -> list[str]:
    """What executes ``job``. On cores of its own: one rank would else let its helpers use the cores of a second."""
    cores = sorted(os.sched_getaffinity(0))[: job.ranks * job.study.threads]
    pinned = ["taskset", "--cpu-list", ",".join(map(str, cores))]
    launcher = ["horovodrun", "--gloo", "-np", str(job.ranks)] if job.ranks > 1 else []
    return [*pinned, *launcher, "hpcfast", *job.arguments, "--overwrite"]


def _execute(job: Job, stop: StopRequest, running: TextIO) -> float:
    """Run ``job`` to its end, or to that which ``stop`` or its time limit ask for; how long it took (seconds)."""
    words = command(job)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "OMP_NUM_THREADS": str(job.study.threads), "PYTHONUNBUFFERED": "1"}
    job.log.parent.mkdir(parents=True, exist_ok=True)
    with job.log.open("a") as log:
        print(f"{START} {time.strftime('%FT%T%z')} $ {shlex.join(words)}", file=log, flush=True)
        begun = time.monotonic()
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env,
            start_new_session=True, pass_fds=[running.fileno()],
        )  # fmt: skip
        late = False
        while process.poll() is None and not (stop.requested or late):
            try:
                process.wait(0.2)
            except subprocess.TimeoutExpired:
                late = time.monotonic() - begun > 60 * job.study.minutes
        if process.poll() is None:
            _end(process)
        seconds = time.monotonic() - begun
        if late:
            print(f"\nended: it took longer than minutes: {job.study.minutes:g}", file=log)
        if not stop.requested:
            print(f"\n== end {TOO_LONG if late else abs(process.returncode)} {seconds:.1f}", file=log)
    return seconds


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a launcher and all that it has started."""
    try:
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        family = []
    process.terminate()
    for left in psutil.wait_procs(family, timeout=GRACE)[1]:
        left.kill()
    process.wait()
