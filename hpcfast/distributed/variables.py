"""What Horovod reads from the environment, once, when it starts."""

import os

import torch

from hpcfast.distributed.settings import AllreduceSettings

CPU_CYCLE = 20.0
"""Milliseconds between looks for ready gradients on CPUs, while any are under way and no rank waits for them.

Horovod's thread asks the other ranks at each look, which takes 0.5 to 1 ms of a core of the ranks. Horovod as
`scripts/setup` builds it looks at once when a rank waits, and rarely while there is nothing to send; another Horovod
looks always, and lets ready gradients wait for the next look, which costs steps of 40 ms a third.
"""


def announce(allreduce: AllreduceSettings | None) -> None:
    """Set what ``allreduce`` says, and where it and the user say nothing, a slower cycle on CPUs."""
    os.environ.update(allreduce.environment() if allreduce else {})
    if not torch.cuda.is_available():
        os.environ.setdefault("HOROVOD_CYCLE_TIME", str(CPU_CYCLE))
