"""What of its machine a rank may use."""

import os
import re
import socket
from collections import Counter
from pathlib import Path

import psutil
import torch

from hpcfast.errors import UserError


def see_gpus() -> None:
    """Refuse CPUs where Slurm has given the job GPUs."""
    given = int(os.environ.get("SLURM_GPUS_ON_NODE") or 0)
    if given and not torch.cuda.is_available():
        cause = "its driver is missing or too old for this torch, or a container was started without --nv"
        if torch.version.cuda is None:
            cause = "this torch is built for CPUs: set up anew with one for CUDA"
        raise UserError(
            f"Slurm has given this job {given} GPUs on {socket.gethostname()}, and torch {torch.__version__} sees "
            f"none: {cause}. To train on CPUs: sbatch --gpus-per-node=0"
        )


def shares(mine: list[int], everyone: list[tuple[str, list[int]]]) -> tuple[int, int]:
    """A rank's fair share of its machine's cores, at least 1, and those that all ranks here may use.

    Args:
        mine: cores that this rank may use: srun and mpirun give each rank its own, horovodrun gives all to each.
        everyone: every rank's machine and cores.
    """
    users = Counter(core for host, cores in everyone if host == socket.gethostname() for core in cores)
    return max(1, int(sum(1 / users[core] for core in mine) + 1e-6)), len(users)


def free(device: torch.device) -> int:
    """Bytes that this process can still allocate on ``device``: what the machine has, or its control groups allow."""
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + cached
    return min([psutil.virtual_memory().available, *_left_in_groups(Path("/"))])


_FILES = {
    "": ("memory.max", "memory.current", "inactive_file"),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}
"""Limit, usage, and the entry of memory.stat for pages that give way, of control groups of version 2 and version 1."""


def _left_in_groups(root: Path) -> list[int]:
    """What each control group of this process, of version 1 or 2, leaves below its limit; without those that have none.

    Slurm and containers set such limits; who exceeds one is killed. Pages that cache files don't count: they give way.
    """
    left = []
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers not in _FILES:
            continue
        limit, usage, cache = _FILES[controllers]
        mount = root / "sys/fs/cgroup" / controllers
        group = mount / path.lstrip("/")
        for folder in (group, *group.parents):
            if not folder.is_relative_to(mount):
                break
            allowed, used = _read(folder / limit).strip(), _read(folder / usage).strip()
            if allowed.isdigit() and used.isdigit():
                stat = dict(re.findall(r"(\w+) (\d+)", _read(folder / "memory.stat")))
                left.append(max(0, int(allowed) - int(used) + int(stat.get(cache, 0))))
    return left


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""
