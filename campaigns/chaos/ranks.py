"""Faults of a rank: its process is killed, stopped or slow, or things go wrong in it."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from .job import Impossible, Inject, Job, Rank

MEMORY = 1 << 28
"""Bytes."""
DUTY = "while kill -STOP {pid}; do sleep 0.6; kill -CONT {pid} || exit; sleep 0.1; done"


@contextmanager
def kill(job: Job, rank: Rank, _: Rank) -> Iterator[None]:
    """The kernel ends the rank."""
    os.kill(rank.pid, signal.SIGKILL)
    yield


@contextmanager
def stop(job: Job, rank: Rank, _: Rank) -> Iterator[None]:
    """The rank stands still; Slurm ends it with the job."""
    os.kill(rank.pid, signal.SIGSTOP)
    yield


@contextmanager
def slow_rank(job: Job, rank: Rank, _: Rank) -> Iterator[None]:
    """The rank runs for a seventh of the time."""
    shell = subprocess.Popen(["bash", "-c", DUTY.format(pid=rank.pid)], stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        shell.kill()
        shell.wait()
        with contextlib.suppress(ProcessLookupError):
            os.kill(rank.pid, signal.SIGCONT)


def poke(word: str) -> Inject:
    """Have the rank read ``word``: see overlay/sitecustomize.py."""

    @contextmanager
    def inject(job: Job, rank: Rank, _: Rank) -> Iterator[None]:
        file = job.cluster.path / "pokes" / str(rank.pid)
        file.write_text(word)
        os.kill(rank.pid, signal.SIGUSR1)
        yield
        if word.startswith("clock"):
            file.write_text("clock 0")
            with contextlib.suppress(ProcessLookupError):
                os.kill(rank.pid, signal.SIGUSR1)

    return inject


@contextmanager
def starve(job: Job, rank: Rank, other: Rank) -> Iterator[None]:
    """The rank wants more memory than its control group, which its wrapper is in too, may have."""
    group = Path("/sys/fs/cgroup/memory")
    group = (group if group.is_dir() else group.parent) / f"chaos-{os.getpid()}-{rank.pid}"
    try:
        group.mkdir()
        limit = next(file for name in ("memory.limit_in_bytes", "memory.max") if (file := group / name).exists())
    except (OSError, StopIteration) as error:
        raise Impossible(f"no control group of memory: {error}") from None
    try:
        for pid in (psutil.Process(rank.pid).ppid(), rank.pid):
            (group / "cgroup.procs").write_text(str(pid))
        limit.write_text(str(MEMORY))
        with poke(f"memory {2 * MEMORY}")(job, rank, other):
            yield
    finally:
        for pid in (group / "cgroup.procs").read_text().split():
            with contextlib.suppress(OSError):
                (group.parent / "cgroup.procs").write_text(pid)
        group.rmdir()
