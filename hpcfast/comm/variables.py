"""What Horovod reads from the environment, once, when it starts."""

import os

import torch

from hpcfast.allreduce import AllreduceSettings

CPU_CYCLE = 20.0
"""Milliseconds between looks for ready gradients on CPUs.

Horovod's thread asks the other ranks at each look, ready or not, and on a CPU it does that on a core of the ranks,
which a look takes 0.5 to 1 ms of. Ready gradients wait for the next look: steps of 40 ms are 14 to 15 % slower with one
every 20 than with one every 10, those of 2 s about 7 % faster (beside DDP, on two days). Real networks take that long.
"""


def announce(allreduce: AllreduceSettings | None) -> None:
    """Set what ``allreduce`` says, and where it and the user say nothing, a slower cycle on CPUs."""
    os.environ.update(allreduce.environment() if allreduce else {})
    if not torch.cuda.is_available():
        os.environ.setdefault("HOROVOD_CYCLE_TIME", str(CPU_CYCLE))
