"""Each node's own: cores and who is bound to them, locked memory, local scratch."""

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


class Cores(NamedTuple):
    """The cores a rank may use, how many its node has, and the threads it computes with."""

    mine: tuple[int, ...]
    on_node: int
    threads: int


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


def _memlock(_: Job) -> tuple[float, bool]:
    limit, interfaces = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0], Path("/sys/class/infiniband")
    return math.inf if limit == resource.RLIM_INFINITY else limit, interfaces.is_dir() and any(interfaces.iterdir())


def judge_memlock(answers: Answers) -> Finding:
    """``value``: bytes a process may lock, and whether the node has InfiniBand, whose drivers must lock all buffers."""
    tight = [answer for answer in answers if answer.value[1] and answer.value[0] < math.inf]
    least = min(answer.value[0] for answer in tight or answers)
    told = "unlimited" if least == math.inf else f"{least / 2**20:.0f} MB"
    if not tight:
        return Finding(told)
    cure = "'ulimit -l unlimited' in the batch script; if it is refused, ask the administrators (LimitMEMLOCK)"
    return Finding(f"{told} on {hosts(tight)}, which have InfiniBand", "bad", cure)


def _scratch(_: Job) -> dict[str, float | None]:
    try:
        temporary = tempfile.gettempdir()
    except OSError:  # it tries several, and none can be written
        temporary = os.environ.get("TMPDIR", "/tmp")
    return {path: _free(path) for path in ("/dev/shm", temporary)}


def _free(path: str) -> float | None:
    try:
        with tempfile.TemporaryFile(dir=path):
            return shutil.disk_usage(path).free / 1e9
    except OSError:
        return None


def judge_scratch(answers: Answers) -> Finding:
    """``value``: GB that are free in each local folder that libraries write to; None where it cannot be written."""
    for answer in answers:
        for path, free in answer.value.items():
            if free is None:
                cure = "set TMPDIR to a folder you may write, on all nodes; /dev/shm is the node's or the container's"
                return Finding(f"{path} cannot be written on {answer.host}", "bad", cure)
            if free < 0.5:
                told = f"{free:.2f} GB are free in {path} on {answer.host}, less than 0.5"
                return Finding(told, "warn", "delete what is left there; in a container give it more (--shm-size)")
    return Finding(", ".join(f"{path} {free:.0f} GB" for path, free in answers[0].value.items()))


CHECKS = (
    Check("cores", _cores, judge_cores),
    Check("locked memory", _memlock, judge_memlock),
    Check("local scratch", _scratch, judge_scratch),
)
