"""A study on this machine: its jobs one after another, each on as many cores as it has threads."""

import itertools
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TextIO

import psutil

from hpcfast.report.format import count, duration
from hpcfast.runs.lock import locked
from hpcfast.runs.signals import Stopped, StopRequest
from hpcfast.scaling import collect
from hpcfast.scaling.jobs import START, Job
from hpcfast.scaling.planning import seconds_left

GRACE = 30.0
"""Seconds that a job has to end by itself."""
ENDING = f"ending what is running, which may take {GRACE:.0f} s; the same command resumes"
TOO_LONG = 124
"""The exit code of a job that was ended for that, as of timeout(1)."""


def run(jobs: list[Job], say: Callable[[str], None]) -> None:
    """Execute those of ``jobs`` that are not done, each anew: a gap would count in its time to robust accuracy.

    Raises:
        Stopped: a signal asked for it; the job that ran has been ended.
    """
    with StopRequest(ENDING) as stop, (jobs[0].study.folder / ".job").open("w") as lock:
        _wait_for_an_orphan(lock, stop, say)
        waiting = [job for job in jobs if job.state != "done"]
        _warn_of_sharing(waiting, say)
        for number, job in enumerate(waiting):
            if stop.requested:
                raise Stopped("stopped between two jobs; the same command goes on")
            place = f"[{len(jobs) - len(waiting) + number + 1}/{len(jobs)}] {job.name}"
            left = seconds_left(waiting[number:], jobs)
            say(f"{place} …" + ("" if left is None else f"  (about {duration(left)} left in all)"))
            seconds = _execute(job, lock, stop)
            row = collect.row(job)
            told = f"{duration(row.ttra)} to the target" if row.ttra is not None else row.note
            say(f"{place} {row.status}: {told} ({duration(seconds)} in all)")


def _warn_of_sharing(jobs: list[Job], say: Callable[[str], None]) -> None:
    cores = len(os.sched_getaffinity(0))
    shared = sorted({job.ranks for job in jobs if job.ranks * job.study.threads > cores})
    if shared:
        each = f"{count(jobs[0].study.threads, 'thread')} each"
        ranks = ", ".join(map(str, shared))
        said = "their epochs count, their speed does not: the report gives them no speed-up"
        say(f"warning: {ranks} ranks with {each} share {count(cores, 'core')} of this machine; {said}")


def _wait_for_an_orphan(lock: TextIO, stop: StopRequest, say: Callable[[str], None]) -> None:
    """A study that was killed (SIGKILL) leaves its jobs behind, which hold the file ``lock`` while they live."""
    for tried in itertools.count():
        with suppress(BlockingIOError):
            locked(lock)
            return
        if not tried:
            say("waiting for what a study that was killed has left running …")
        if stop.requested:
            raise Stopped("stopped while waiting; the same command goes on")
        time.sleep(0.2)


def command(job: Job, cores: Sequence[int]) -> list[str]:
    """What executes ``job``, on no more cores than threads: else one rank's helpers would use the core of a second."""
    pinned = ["taskset", "--cpu-list", ",".join(map(str, cores))]
    launcher = ["horovodrun", "--gloo", "-np", str(job.ranks)]
    if not shutil.which("horovodrun", path=_path()):
        launcher = ["torchrun", "--nproc-per-node", str(job.ranks), "-m"]
    return [*pinned, *(launcher if job.ranks > 1 else []), "hpcfast", *job.arguments, "--overwrite"]


def _path() -> str:
    return f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


def _execute(job: Job, lock: TextIO, stop: StopRequest) -> float:
    """Run ``job``, whose processes hold the file ``lock``, and say in its log how it ended; return its seconds.

    Raises:
        Stopped: a signal asked for it; the job has been ended.
    """
    words = command(job, sorted(os.sched_getaffinity(0))[: job.ranks * job.study.threads])
    env = {**os.environ, "PATH": _path(), "OMP_NUM_THREADS": str(job.study.threads), "PYTHONUNBUFFERED": "1"}
    job.log.parent.mkdir(parents=True, exist_ok=True)
    with job.log.open("a") as log:
        print(f"{START} {time.strftime('%FT%T%z')} $ {shlex.join(words)}", file=log, flush=True)
        begun = time.monotonic()
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env,
            start_new_session=True, pass_fds=[lock.fileno()],
        )  # fmt: skip
        code = _wait(process, begun + 60 * job.study.minutes, stop)
        if code == TOO_LONG:
            print(f"\nended: it took longer than minutes: {job.study.minutes:g}", file=log)
        seconds = time.monotonic() - begun
        print(f"\n== end {code} {seconds:.1f}", file=log)
    return seconds


def _wait(process: "subprocess.Popen[bytes]", deadline: float, stop: StopRequest) -> int:
    """The exit code of ``process``; it is ended at the ``deadline`` (TOO_LONG), and when a signal asks for it."""
    while True:
        with suppress(subprocess.TimeoutExpired):
            return abs(process.wait(0.2))
        if stop.requested:
            _end(process)
            raise Stopped("what was running was ended; the same command begins it anew and goes on from there")
        if time.monotonic() > deadline:
            _end(process)
            return TOO_LONG


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a launcher and all that it has started, within GRACE."""
    family = [(launcher := psutil.Process(process.pid)), *launcher.children(recursive=True)]
    process.terminate()
    for left in psutil.wait_procs(family, timeout=GRACE)[1]:
        left.kill()
    process.wait()
