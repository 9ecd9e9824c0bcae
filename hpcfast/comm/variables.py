"""What Horovod reads from the environment, once, when it starts."""

import os

import torch

from hpcfast.allreduce import AllreduceSettings

CPU_CYCLE = 20.0
"""Milliseconds between looks for ready gradients on CPUs.

Horovod's thread asks the other ranks at each look, ready or not, and on a CPU it does that on a core of the ranks:
every millisecond, Horovod's default, takes 7 to 14 % of a step's time, every 5 still 9 % of one of 0.7 s; every 20
nothing that could be measured, but adds 10 ms to a step of 50. Real networks take longer than that.
"""


def announce(allreduce: AllreduceSettings | None) -> None:
    """Set what ``allreduce`` says, and where it and the user say nothing, a slower cycle on CPUs."""
    os.environ.update(allreduce.environment() if allreduce else {})
    if not torch.cuda.is_available():
        os.environ.setdefault("HOROVOD_CYCLE_TIME", str(CPU_CYCLE))
