"""Each node's own: cores and who is bound to them, limits, local scratch."""

import math
import os
import resource
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import torch

from hpcfast.doctor.finding import Answers, Check, Finding, Job, by_host, hosts

SHM_GB = 0.5
SCRATCH_GB = 1.0


class Cores(NamedTuple):
    """The cores a rank may use, how many its node has, and the threads it computes with."""

    mine: tuple[int, ...]
    on_node: int
    threads: int


class Limits(NamedTuple):
    """Of this process: bytes it may lock, files it may open (or infinity); and whether the node has InfiniBand."""

    memlock: float
    files: float
    infiniband: bool


class Room(NamedTuple):
    """A local folder that libraries write to; GB that are free, None where nothing can be written."""

    path: str
    free: float | None
    wanted: float


def _cores(_: Job) -> Cores:
    return Cores(tuple(sorted(os.sched_getaffinity(0))), os.cpu_count() or 1, torch.get_num_threads())


def judge_cores(answers: Answers) -> Finding:
    """``value``: Cores."""
    for host, ranks in by_host(answers).items():
        users = Counter(core for answer in ranks for core in answer.value.mine)
        for rank, _, (mine, on_node, threads), _ in ranks:
            if sum(1 / users[core] for core in mine) < 1 - 1e-6:
                if len(ranks) > on_node:
                    told = f"{len(ranks)} ranks on the {on_node} cores of {host}"
                    return Finding(told, "warn", "start fewer ranks a node: they take turns")
                span = str(mine[0]) if len(mine) == 1 else f"{mine[0]} to {mine[-1]}"
                told = f"rank {rank} on {host} shares core {span} with others; the node has {on_node}"
                cure = "bind no rank, or each to cores of its own: srun --cpu-bind=cores --cpus-per-task=N, "
                return Finding(told, "bad", cure + "mpirun --bind-to none, no taskset")
            if threads > len(mine):
                told = f"rank {rank} on {host} has {threads} threads on {len(mine)} cores"
                return Finding(told, "warn", "unset OMP_NUM_THREADS: hpcfast takes a rank's share of the cores")
    first = answers[0].value
    return Finding(f"{len(first.mine)} of {first.on_node} a rank, {first.threads} threads")


def _limits(_: Job) -> Limits:
    interfaces = Path("/sys/class/infiniband")
    soft = (resource.getrlimit(what)[0] for what in (resource.RLIMIT_MEMLOCK, resource.RLIMIT_NOFILE))
    memlock, files = (math.inf if limit == resource.RLIM_INFINITY else limit for limit in soft)
    return Limits(memlock, files, interfaces.is_dir() and any(interfaces.iterdir()))


def judge_memlock(answers: Answers) -> Finding:
    """Without it InfiniBand's drivers cannot register buffers; elsewhere it does not matter."""
    tight = [answer for answer in answers if answer.value.infiniband and answer.value.memlock < math.inf]
    if tight:
        told = f"{_size(tight[0].value.memlock)} on {hosts(tight)}, which have InfiniBand"
        cure = "'ulimit -l unlimited' in the batch script; if it is refused, ask the administrators (LimitMEMLOCK)"
        return Finding(told, "bad", cure)
    return Finding(_size(min(answer.value.memlock for answer in answers)))


def judge_files(answers: Answers) -> Finding:
    """Gloo opens connections between every two ranks: up to three, for all, a node's and the nodes' groups."""
    needed = 256 + 4 * len(answers)
    tight = [answer for answer in answers if answer.value.files < needed]
    if tight:
        told = f"{tight[0].value.files} on {hosts(tight)}; {len(answers)} ranks may need {needed}"
        return Finding(told, "warn", f"'ulimit -n {max(4096, needed)}' in the batch script")
    least = min(answer.value.files for answer in answers)
    return Finding("unlimited" if least == math.inf else str(least))


def _size(limit: float) -> str:
    return "unlimited" if limit == math.inf else f"{limit / 2**20:.0f} MB"


def _scratch(_: Job) -> tuple[Room, ...]:
    try:
        temporary = tempfile.gettempdir()
    except OSError:  # it tries several, and none can be written
        temporary = os.environ.get("TMPDIR", "/tmp")
    return tuple(Room(path, _free(path), wanted) for path, wanted in (("/dev/shm", SHM_GB), (temporary, SCRATCH_GB)))


def _free(path: str) -> float | None:
    try:
        with tempfile.TemporaryFile(dir=path):
            return shutil.disk_usage(path).free / 1e9
    except OSError:
        return None


def judge_scratch(answers: Answers) -> Finding:
    """``value``: Rooms."""
    for answer in answers:
        for path, free, wanted in answer.value:
            if free is None:
                cure = "set TMPDIR to a folder you may write, on all nodes; /dev/shm is the node's or the container's"
                return Finding(f"{path} cannot be written on {answer.host}", "bad", cure)
            if free < wanted:
                told = f"{free:.2f} GB are free in {path} on {answer.host}, less than {wanted:g}"
                return Finding(told, "warn", "delete what is left there; in a container give it more (--shm-size)")
    return Finding(", ".join(f"{path} {free:.0f} GB" for path, free, _ in answers[0].value))


CHECKS = (
    Check("cores", _cores, judge_cores),
    Check("locked memory", _limits, judge_memlock),
    Check("open files", _limits, judge_files),
    Check("local scratch", _scratch, judge_scratch),
)
