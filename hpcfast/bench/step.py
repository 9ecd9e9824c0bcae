"""Training steps by method, precision and memory format. CPU time counts all threads of a rank."""

import statistics
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from hpcfast.bench.turns import ratio, take_turns
from hpcfast.component import validate
from hpcfast.config import RunConfig
from hpcfast.data import Batch
from hpcfast.distributed.comm import World
from hpcfast.training.step import Learner

CLASSES = 10


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    method: str
    attack: dict[str, Any]
    precision: str = "fp32"
    memory_format: str = "channels_last"


STEPS = (
    Case("standard", {"name": "standard"}, memory_format="contiguous"),
    Case("standard", {"name": "standard"}),
    Case("standard", {"name": "standard"}, "bf16"),
    Case("fgsm_rs", {"name": "fgsm_rs"}, memory_format="contiguous"),
    Case("fgsm_rs", {"name": "fgsm_rs"}),
    Case("fgsm_rs", {"name": "fgsm_rs"}, "bf16"),
    Case("pgd-7", {"name": "pgd", "steps": 7}),
)
"""The first is what the others are relative to: what a user runs who knows of none of this."""


def steps(
    model: str, options: dict[str, Any], size: int, batch: int, repeats: int, world: World
) -> list[dict[str, Any]]:
    """Time training steps, allreduce included where there are several ranks, on images of noise.

    Args:
        size: of the images, pixels.
        batch: a rank's.
        repeats: timed rounds, after one that is not.

    Returns:
        A row a case: ``method``, ``precision``, ``memory_format``; ``seconds`` and ``cpu_seconds`` of a step (medians);
        ``flops`` of a step on one rank, counted; ``relative_to_standard``, the median over rounds of the ratio of CPU
        times to the first case's in the same round, and ``spread``, the least and the greatest of these ratios;
        ``relative_flops``.
    """
    learners = [learner_of(case, model, options, size, batch, world) for case in STEPS]
    batches = [noise_batch(batch, size, world)]
    flops = [_flops(learner, batches[0]) for learner in learners]
    taken = take_turns({i: partial(train_on, learner, batches) for i, learner in enumerate(learners)}, repeats)
    rows = []
    for i, case in enumerate(STEPS):
        relative = ratio([one.cpu for one in taken[i]], [one.cpu for one in taken[0]])
        rows.append(
            {
                "method": case.method,
                "precision": case.precision,
                "memory_format": case.memory_format,
                "seconds": statistics.median(one.wall for one in taken[i]),
                "cpu_seconds": statistics.median(one.cpu for one in taken[i]),
                "flops": flops[i],
                "relative_to_standard": relative.median,
                "spread": [relative.low, relative.high],
                "relative_flops": flops[i] / flops[0],
            }
        )
    return rows


def noise_batch(batch: int, size: int, world: World) -> Batch:
    """Images of noise, another on each rank."""
    generator = torch.Generator().manual_seed(world.rank)
    x = torch.rand(batch, 3, size, size, generator=generator).to(world.device)
    y = torch.randint(CLASSES, (batch,), generator=generator).to(world.device)
    return Batch(x, y, torch.arange(batch))


def learner_of(case: Case, model: str, options: dict[str, Any], size: int, batch: int, world: World) -> Learner:
    """What is trained in ``case``; the arguments are those of :func:`steps`."""
    check = {"attack": {"name": "standard"}}
    config = validate(
        RunConfig,
        {
            "name": "bench",
            "threat": {"norm": "L2", "eps": 1.0},
            "data": {"path": "none", "size": size, "batch_size": batch},
            "model": {"name": model, "options": options, "mean": [0.5] * 3, "std": [0.25] * 3},
            "attack": case.attack,
            "epochs": 1,
            "optim": {"lr": 0.01, "lr_batch": batch * world.size},
            "schedule": {"name": "cosine"},
            "precision": case.precision,
            "evaluation": {"monitor": check, "final": check},
        },
    )
    learner = Learner(config, CLASSES, world)
    if case.memory_format == "contiguous":
        learner.model.to(memory_format=torch.contiguous_format)
    learner.model.train()
    return learner


def _flops(learner: Learner, batch: Batch) -> int:
    """Of a step on this rank, counted by torch; which also warms it up."""
    through = cast(nn.Module, lambda x: learner.network(x.mul(1)))  # the counter cannot watch a module's leaf input
    config, source = learner.config, torch.Generator(batch.x.device)
    with FlopCounterMode(display=False) as counter:
        for loss in config.attack.losses(through, batch.x, batch.y, config.threat.ball, source, F.cross_entropy):
            loss.backward()
            learner.optimizer.step()
            learner.optimizer.zero_grad()
    return counter.get_total_flops()


def train_on(learner: Learner, batches: list[Batch]) -> None:
    """One step, until the device has done it."""
    learner.step(batches, learner.config.attack, learner.config.optim.lr, 0).item()
