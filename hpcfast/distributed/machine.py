"""What of its machine a rank may use."""

import os
import socket
from collections import Counter

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
