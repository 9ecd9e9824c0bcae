"""Two ranks: how often Horovod's thread looks for tensors, and whether it looks when one is waited for."""

import os
import sys
import time
from pathlib import Path

import horovod.torch as hvd
import torch

from hpcfast.distributed import comm, gradients

AN_HOUR = 3.6e6
"""Milliseconds."""


def awaited() -> None:
    """Collectives end although the next regular look is an hour away; so does the job, which needs one to shut down."""
    os.environ["HOROVOD_CYCLE_TIME"] = str(AN_HOUR)
    world = comm.init()
    for step in range(20):
        result = gradients.mean({"a": torch.tensor([float(world.rank + step)]), "b": torch.zeros(3)})
        assert float(result["a"]) == step + 0.5
    print("ok awaited", flush=True)


def idle(file: Path) -> None:
    """A rank that sends nothing is looked at a few times a second, not every millisecond."""
    os.environ["HOROVOD_TIMELINE"] = "DYNAMIC"
    os.environ["HOROVOD_CYCLE_TIME"] = "1"
    world = comm.init()
    hvd.start_timeline(str(file), mark_cycles=True)
    time.sleep(2)
    hvd.stop_timeline()
    gradients.mean({"end": torch.zeros(1)})
    if world.rank == 0:
        print("looks", file.read_text().count("CYCLE_START"), flush=True)


if __name__ == "__main__":
    awaited() if sys.argv[1] == "awaited" else idle(Path(sys.argv[2]))
