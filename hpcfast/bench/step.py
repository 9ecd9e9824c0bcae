"""Training steps by method, precision and memory format. CPU time counts all threads of a rank."""

import statistics
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from hpcfast.bench import ratio, take_turns
from hpcfast.component import validate
from hpcfast.config import RunConfig
from hpcfast.data import Batch
from hpcfast.distributed.comm import World
from hpcfast.training.step import Learner

CLASSES = 10
ATTACKS = {"standard": {"name": "standard"}, "fgsm_rs": {"name": "fgsm_rs"}, "pgd-7": {"name": "pgd", "steps": 7}}
STEPS = (
    ("standard", "fp32", "contiguous"),
    ("standard", "fp32", "channels_last"),
    ("standard", "bf16", "channels_last"),
    ("fgsm_rs", "fp32", "contiguous"),
    ("fgsm_rs", "fp32", "channels_last"),
    ("fgsm_rs", "bf16", "channels_last"),
    ("pgd-7", "fp32", "channels_last"),
)
"""Method, precision, memory format; the first is what a user runs who knows of none of this."""


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
    learners = [_learner(*case, {"name": model, "options": options}, size, batch, world) for case in STEPS]
    generator = torch.Generator().manual_seed(world.rank)
    x = torch.rand(batch, 3, size, size, generator=generator).to(world.device)
    y = torch.randint(CLASSES, (batch,), generator=generator).to(world.device)
    noise = Batch(x, y, torch.arange(batch))
    flops = [_flops(learner, noise) for learner in learners]
    taken = take_turns({i: partial(_train, learner, noise) for i, learner in enumerate(learners)}, repeats)
    rows = []
    for i, (method, precision, memory_format) in enumerate(STEPS):
        relative = ratio([one.cpu for one in taken[i]], [one.cpu for one in taken[0]])
        rows.append(
            {
                "method": method,
                "precision": precision,
                "memory_format": memory_format,
                "seconds": statistics.median(one.wall for one in taken[i]),
                "cpu_seconds": statistics.median(one.cpu for one in taken[i]),
                "flops": flops[i],
                "relative_to_standard": relative.median,
                "spread": [relative.low, relative.high],
                "relative_flops": flops[i] / flops[0],
            }
        )
    return rows


def _learner(
    method: str, precision: str, memory_format: str, network: dict[str, Any], size: int, batch: int, world: World
) -> Learner:
    check = {"attack": {"name": "standard"}}
    values = {
        "name": "bench",
        "threat": {"norm": "L2", "eps": 1.0},
        "data": {"path": "none", "size": size, "batch_size": batch},
        "model": {**network, "mean": [0.5] * 3, "std": [0.25] * 3},
        "attack": ATTACKS[method],
        "epochs": 1,
        "optim": {"lr": 0.01, "lr_batch": batch * world.size},
        "schedule": {"name": "cosine"},
        "precision": precision,
        "evaluation": {"monitor": check, "final": check},
    }
    learner = Learner(validate(RunConfig, values), CLASSES, world)
    if memory_format == "contiguous":
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


def _train(learner: Learner, batch: Batch) -> None:
    """One step, until the device has done it."""
    learner.step([batch], learner.config.attack, learner.config.optim.lr, 0).item()
