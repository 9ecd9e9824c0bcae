"""Evaluates on every rank of a job, without and with memory that runs out on the last: ``memory.py CONFIG``."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hpcfast import evaluation
from hpcfast.config import load
from hpcfast.data.reader import read_splits
from hpcfast.distributed import comm
from hpcfast.evaluation import attacked, rounds

world = comm.init()
config = load(Path(sys.argv[1]), ["name=memory"])
split = read_splits(config.data.path)[1]
torch.manual_seed(0)
model = config.model.build(3)
planned = rounds(config, config.evaluation.final, 3)
original, sizes = evaluation._attack, []


def starved(model: Any, batch: Any, *rest: Any) -> Any:
    if world.rank == world.size - 1 and len(batch.ids) > 3:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")
    sizes.append(len(batch.ids))
    return original(model, batch, *rest)


def measured() -> tuple[Any, list[str], list[int]]:
    said: list[str] = []
    steps: list[int] = []

    def progress(done: int) -> None:
        steps.append(done)
        comm.total(torch.zeros(1))  # as a vote is: a rank that took more steps than another would wait for ever

    outcomes = attacked(model, split, np.arange(len(split)), planned, config, world, progress, say=said.append)
    return outcomes, said, steps


whole, nothing, _ = measured()
assert nothing == []
evaluation._attack = starved
halved, said, steps = measured()
for name in ("clean", "predicted", "fooled"):
    assert np.array_equal(getattr(halved, name), getattr(whole, name)), name
assert len({*comm.gather(len(steps))}) == 1
assert said == ["memory has room for 3 images at a time on each rank, not 250"], said
assert all(size <= 3 for size in sizes[1:]), sizes
print(f"ok halved on {world.size}", flush=True)
