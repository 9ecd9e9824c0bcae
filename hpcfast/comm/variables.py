"""What Horovod reads from the environment, once, when it starts."""

import os

import torch

from hpcfast.allreduce import AllreduceSettings

CPU_CYCLE = 10.0
"""Milliseconds between looks for ready gradients on CPUs.

Horovod's thread asks the other ranks at each look, ready or not, and on a CPU it does that on a core of the ranks:
every 5 took up to 9 % of steps of 0.7 s, every millisecond, Horovod's default, more. But ready gradients wait for the
next look: steps of 40 ms were 14 to 15 % slower with one every 20 than with one every 10, those of 0.5 s equally fast.
"""


def announce(allreduce: AllreduceSettings | None) -> None:
    """Set what ``allreduce`` says, and where it and the user say nothing, a slower cycle on CPUs."""
    os.environ.update(allreduce.environment() if allreduce else {})
    if not torch.cuda.is_available():
        os.environ.setdefault("HOROVOD_CYCLE_TIME", str(CPU_CYCLE))
