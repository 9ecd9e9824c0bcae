"""One rank of ``benchmarks.ranks``: fast steps that send gradients and, by turns, fast steps that send none."""

import argparse
import copy
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from benchmarks import ours
from hpcfast import comm
from hpcfast.config import RunConfig

CLASSES = 10


@dataclass(frozen=True)
class Way:
    """How a network is trained."""

    net: nn.Module
    """Which is attacked."""
    wrapped: Callable[[Tensor], Tensor]
    """The same, through what sends its gradients."""
    optimizer: torch.optim.Optimizer
    buffers: Callable[[nn.Module], Callable[[], object]] = lambda net: lambda: None
    """Begins to send BatchNorm's statistics and returns what waits for the end."""


def horovod(net: nn.Module, config: RunConfig) -> tuple[int, Way]:
    """As :class:`hpcfast.learner.Learner` has it, BatchNorm's statistics included."""
    world = comm.init()
    comm.broadcast_parameters(net)
    optimizer = comm.distribute(config.optim.build(net), net, config.allreduce)
    return world.rank, Way(net, net, optimizer, comm.average_buffers)


def ddp(net: nn.Module, config: RunConfig) -> tuple[int, Way]:
    """As its documentation has it; it sends BatchNorm's statistics from rank 0."""
    torch.distributed.init_process_group("gloo")
    return torch.distributed.get_rank(), Way(net, DistributedDataParallel(net), config.optim.build(net))


def step(way: Way, config: RunConfig, x: Tensor, y: Tensor, source: torch.Generator) -> None:
    """Attack, forward, backward, step."""
    images = config.attack.perturb(way.net, x, y, config.threat.ball, source)
    way.optimizer.zero_grad()
    logits = way.wrapped(images)
    wait = way.buffers(way.net)
    F.cross_entropy(logits, y).backward()
    way.optimizer.step()
    wait()


def main() -> None:
    """Measure; rank 0 writes the seconds of all rounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=("horovod", "ddp"))
    parser.add_argument("out", type=Path)
    parser.add_argument("--short", action="store_true")
    options = parser.parse_args()
    width, size, batch, rounds = (2, 8, 2, 2) if options.short else (64, 32, 8, 10)
    config = ours.config("cifar_resnet18", {"width": width}, size, batch)
    net = config.model.build(CLASSES)
    alone = copy.deepcopy(net)
    rank, sending = {"horovod": horovod, "ddp": ddp}[options.kind](net, config)
    ways = {"alone": Way(alone, alone, config.optim.build(alone)), "sending": sending}
    source = torch.Generator().manual_seed(rank)
    x, y = torch.rand(batch, 3, size, size, generator=source), torch.arange(batch) % CLASSES
    seconds: dict[str, dict[str, list[float]]] = {name: {"wall": [], "cpu": []} for name in ways}
    for number in range(-1, rounds):
        for name, way in ways.items():
            wall, cpu = time.perf_counter(), time.process_time()
            step(way, config, x, y, source)
            if number >= 0:
                seconds[name]["wall"].append(time.perf_counter() - wall)
                seconds[name]["cpu"].append(time.process_time() - cpu)
    if rank == 0:
        options.out.write_text(json.dumps(seconds))


if __name__ == "__main__":
    main()
