"""Each node's cores, and who is bound to them."""

import os
from collections import Counter
from typing import NamedTuple

import torch

from hpcfast.doctor.finding import Answers, Check, Finding, Job, by_host


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


CHECKS = (Check("cores", _cores, judge_cores),)
