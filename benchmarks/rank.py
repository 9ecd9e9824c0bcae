"""One rank of two, for ``benchmarks.ranks`` and ``benchmarks.weak``: fast steps of four kinds by turns.

``sending`` gradients; ``silent``; silent, but ``meeting`` the other rank at the end; ``single``: the other rank waits.
"""

import argparse
import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import permutations
from pathlib import Path

import torch
import torch.distributed
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from benchmarks import ours
from hpcfast.bench import Taken, timed
from hpcfast.config import RunConfig
from hpcfast.distributed import comm, launcher
from hpcfast.distributed.engines import Distributed

CLASSES = 10


@dataclass(frozen=True)
class Way:
    """How a network is trained."""

    net: nn.Module
    """Which is attacked."""
    wrapped: Callable[[Tensor], Tensor]
    """The same, through what sends its gradients."""
    distributed: Distributed
    buffers: Callable[[nn.Module], Callable[[], object]] = lambda net: lambda: None
    """Begins to send BatchNorm's statistics and returns what waits for the end."""
    sharers: int = 1
    """What the loss is divided by: ranks whose gradients are added up, not averaged."""


@dataclass(frozen=True)
class Peers:
    """The ranks of this group."""

    rank: int
    barrier: Callable[[], object]


def hpcfast(net: nn.Module, config: RunConfig) -> tuple[Peers, Way]:
    """As :class:`~hpcfast.training.step.Learner` has it, BatchNorm's statistics included; by the launcher's engine."""
    world = comm.init()
    comm.broadcast_parameters(net)
    distributed = comm.distribute(config.optim.build(net), net, config.allreduce, summed=True)
    return Peers(world.rank, comm.barrier), Way(net, net, distributed, comm.average_buffers, world.size)


def alone(optimizer: torch.optim.Optimizer) -> Distributed:
    """For gradients that nobody waits for."""
    return Distributed(optimizer, lambda: None)


def ddp(net: nn.Module, config: RunConfig) -> tuple[Peers, Way]:
    """As its documentation has it; it sends BatchNorm's statistics from rank 0."""
    torch.distributed.init_process_group("gloo")
    peers = Peers(torch.distributed.get_rank(), torch.distributed.barrier)
    return peers, Way(net, DistributedDataParallel(net), alone(config.optim.build(net)))


def step(
    way: Way, config: RunConfig, x: Tensor, y: Tensor, source: torch.Generator, last: Callable[[], object]
) -> None:
    """Attack, forward, backward, step, and what comes ``last``."""
    images = config.attack.perturb(way.net, x, y, config.threat.ball, source)
    way.distributed.optimizer.zero_grad()
    logits = way.wrapped(images)
    wait = way.buffers(way.net)
    (F.cross_entropy(logits, y) / way.sharers).backward()
    way.distributed.step()
    wait()
    last()


def main() -> None:
    """Measure; rank 0 writes the seconds of all rounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=("horovod", "torch", "ddp"))
    parser.add_argument("out", type=Path)
    parser.add_argument("--kinds", nargs="+", default=["silent", "sending"], help="of steps")
    parser.add_argument("--width", type=int, default=64, help="of the network")
    parser.add_argument("--batch", type=int, default=8, help="images of a rank's step")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--short", action="store_true")
    options = parser.parse_args()
    launcher.prepare()
    width, size, batch, rounds = (2, 8, 2, 2) if options.short else (options.width, 32, options.batch, options.rounds)
    config = ours.config("cifar_resnet18", {"width": width}, size, batch)
    net = config.model.build(CLASSES)
    copied = copy.deepcopy(net)
    peers, sending = {"horovod": hpcfast, "torch": hpcfast, "ddp": ddp}[options.kind](net, config)
    silent = Way(copied, copied, alone(config.optim.build(copied)))
    source = torch.Generator().manual_seed(peers.rank)
    x, y = torch.rand(batch, 3, size, size, generator=source), torch.arange(batch) % CLASSES
    taken: dict[str, list[Taken]] = {name: [] for name in options.kinds}
    orders = list(permutations(taken))  # a step is faster after another one of the same network
    for number in range(-1, rounds):
        for name in orders[number % len(orders)]:
            way = sending if name == "sending" else silent
            peers.barrier()
            if name == "single" and peers.rank:
                continue
            one = timed(partial(step, way, config, x, y, source, peers.barrier if name == "meeting" else int))
            taken[name] += [one] if number >= 0 else []
    if peers.rank == 0:
        options.out.write_text(json.dumps(taken))


if __name__ == "__main__":
    main()
