"""A study on this machine: jobs on as many cores as they have threads, one by one or, ``together``, side by side."""

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TextIO

import psutil

from hpcfast.runs.lock import locked
from hpcfast.runs.signals import Stopped, StopRequest
from hpcfast.scaling import collect
from hpcfast.scaling.estimate import Estimates, words
from hpcfast.scaling.jobs import START, Job

GRACE = 30.0
"""Seconds that jobs have to end by themselves."""
ENDING = f"ending what is running, which may take {GRACE:.0f} s; the same command resumes"
TOO_LONG = 124
"""The exit code of a job that was ended for that, as of timeout(1)."""


def run(jobs: list[Job], say: Callable[[str], None]) -> None:
    """Execute those of ``jobs`` that are not done, each anew: a gap would count in its time to robust accuracy.

    Raises:
        Stopped: a signal asked for it; what was running has been ended.
    """
    with StopRequest(ENDING) as stop, (jobs[0].study.folder / ".job").open("w") as lock:
        _wait_for_an_orphan(lock, stop, say)
        waiting = [job for job in jobs if job.state != "done"]
        done = len(jobs) - len(waiting)
        places = {job.name: f"[{done + number}/{len(jobs)}] {job.name}" for number, job in enumerate(waiting, 1)}
        estimates, running = Estimates(jobs), list[Execution]()
        while waiting or running:
            if not running:
                left = estimates.sum(waiting, _share)
                about = "" if left is None else f"  (about {words(left)} left in all)"
                running = _begin(waiting, lock)
                for begun in running:
                    say(f"{places[begun.job.name]} …{about}")
            psutil.wait_procs([each.process for each in running], timeout=0.2)
            if stop.requested:
                end(running)
                raise Stopped("what was running was ended; the same command begins it anew and goes on from there")
            for ended in [each for each in running if each.check()]:
                running.remove(ended)
                row = collect.row(ended.job)
                told = f"{row.ttra:.1f} s to the target" if row.ttra is not None else row.note
                say(f"{places[ended.job.name]} {row.status}: {told} ({ended.seconds:.0f} s in all)")
                estimates.add(ended.job)


def _wait_for_an_orphan(lock: TextIO, stop: StopRequest, say: Callable[[str], None]) -> None:
    """A study that was killed (SIGKILL) leaves its jobs behind, which hold the file ``lock`` while they live."""
    told = False
    while True:
        try:
            if not locked(lock):
                say("the study's file system has no locks: see that no study that was killed has left jobs running")
            return
        except BlockingIOError:
            if not told:
                say("waiting for what a study that was killed has left running …")
            told = True
        if stop.requested:
            raise Stopped("stopped while waiting; the same command goes on")
        time.sleep(0.2)


def _share(job: Job) -> float:
    """The part of this machine that ``job`` takes from others: all of it, unless they run together."""
    cores = len(os.sched_getaffinity(0))
    return min(1.0, job.ranks * job.study.threads / cores) if job.study.together else 1.0


def _begin(waiting: list[Job], lock: TextIO) -> list["Execution"]:
    """Begin the first of ``waiting`` and, in studies that say so, those that find room beside it.

    The next begin when all of these have ended: a job of many ranks would else wait for all those of few, and machines
    are faster at one time than at another.
    """
    free, begun = sorted(os.sched_getaffinity(0)), list[Execution]()
    cores = len(free)
    for job in list(waiting):
        needed = min(job.ranks * job.study.threads, cores)
        if needed <= len(free) and (job.study.together or not begun):
            waiting.remove(job)
            begun.append(Execution(job, free[:needed], lock))
            del free[:needed]
    return begun


def command(job: Job, cores: Sequence[int]) -> list[str]:
    """What executes ``job``. On ``cores`` of its own: one rank would else let its helpers use the core of a second."""
    pinned = ["taskset", "--cpu-list", ",".join(map(str, cores))]
    launcher = ["horovodrun", "--gloo", "-np", str(job.ranks)] if job.ranks > 1 else []
    return [*pinned, *launcher, "hpcfast", *job.arguments, "--overwrite"]


class Execution:
    """A job that runs, and whose processes hold the file ``lock``."""

    def __init__(self, job: Job, cores: Sequence[int], lock: TextIO) -> None:
        self.job, self.seconds = job, 0.0
        words = command(job, cores)
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        env = {**os.environ, "PATH": path, "OMP_NUM_THREADS": str(job.study.threads), "PYTHONUNBUFFERED": "1"}
        job.log.parent.mkdir(parents=True, exist_ok=True)
        self._log = job.log.open("a")
        print(f"{START} {time.strftime('%FT%T%z')} $ {shlex.join(words)}", file=self._log, flush=True)
        self._begun = time.monotonic()
        self.process = psutil.Popen(
            words, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, env=env,
            start_new_session=True, pass_fds=[lock.fileno()],
        )  # fmt: skip

    def check(self) -> bool:
        """End it if it takes too long, and say in its log how it has ended; whether it has."""
        code, self.seconds = self.process.poll(), time.monotonic() - self._begun
        if code is None and self.seconds <= 60 * self.job.study.minutes:
            return False
        if code is None:
            end([self])
            print(f"\nended: it took longer than minutes: {self.job.study.minutes:g}", file=self._log)
        print(f"\n== end {TOO_LONG if code is None else abs(code)} {self.seconds:.1f}", file=self._log)
        self._log.close()
        return True


def end(executions: Sequence[Execution]) -> None:
    """End launchers and all that they have started; together they have GRACE for that."""
    family: list[psutil.Process] = []
    for each in executions:
        with suppress(psutil.NoSuchProcess):
            family += [psutil.Process(each.process.pid), *each.process.children(recursive=True)]
        each.process.terminate()
    for left in psutil.wait_procs(family, timeout=GRACE)[1]:
        left.kill()
    for each in executions:
        each.process.wait()
