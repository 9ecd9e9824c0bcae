"""What Horovod reads from the environment, once, when it starts."""

import os

import torch

from hpcfast.allreduce import AllreduceSettings

CPU_CYCLE = 5.0
"""Milliseconds between looks for ready gradients on CPUs.

Horovod's thread asks the other ranks at each look, ready or not, and on a CPU it does that on a core of the ranks:
every millisecond, Horovod's default, takes 7 to 14 % of a step's time (two ranks on two cores, steps of 65 ms to 1 s).
"""


def announce(allreduce: AllreduceSettings | None) -> None:
    """Set what ``allreduce`` says, and where it and the user say nothing, a slower cycle on CPUs."""
    os.environ.update(allreduce.environment() if allreduce else {})
    if not torch.cuda.is_available():
        os.environ.setdefault("HOROVOD_CYCLE_TIME", str(CPU_CYCLE))
