"""What it costs that ranks exchange gradients: allreduces by size, and what of a real step's is not hidden."""

import copy
import socket
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from scipy.optimize import nnls
from torch import Tensor

from hpcfast.bench.step import Case, learner_of, noise_batch
from hpcfast.distributed import comm
from hpcfast.distributed.comm import World
from hpcfast.errors import UserError
from hpcfast.training.precision import Network

SIZES = tuple(1024 * 4**power for power in range(9))
"""Bytes: 1 KiB to 64 MiB."""
COMPRESSIONS = ("none", "fp16")
SMALL = 1024**2
"""Bytes up to which several calls are timed at once."""

Timed = Callable[[], float]
"""Does one piece of work; returns the seconds it took on this rank."""


def measure(model: str, size: int, batch: int, repeats: int, world: World) -> dict[str, Any]:
    """Time allreduces of float32 tensors, and steps of training with and without theirs, side by side; a collective.

    Args:
        model: whose gradients are sent, and which is trained by the fast method.
        size: of its images, pixels.
        batch: a rank's.
        repeats: timed rounds, after one that is not.

    Returns:
        ``rows``, by ``bytes`` and ``compression``: ``seconds`` (median), ``spread`` (least, greatest),
        ``bus_bandwidth`` (bytes/s that each link carries in a ring); ``latency_seconds`` and ``bytes_per_second``,
        fitted to those without compression; ``gradients``: the same rows for all of the model's, which Horovod fuses,
        and ``gradient_bytes``; ``step``: see :func:`_step`; ``ranks``, ``nodes``, ``n``.

    Raises:
        UserError: there is but one rank.
    """
    if world.size == 1:
        raise UserError("bench allreduce: one rank has nobody to send to; start it under horovodrun, mpirun or srun")
    learner = learner_of(Case("fast", {"name": "fgsm_rs"}), model, {}, size, batch, world)
    shapes = [parameter.shape for parameter in learner.model.parameters()]
    total = 4 * sum(shape.numel() for shape in shapes)
    single = {(bytes_, kind): _single(bytes_, kind, world) for bytes_ in SIZES for kind in COMPRESSIONS}
    fused = {(total, kind): _fused(shapes, kind, world) for kind in COMPRESSIONS}
    taken = interleaved([*single.values(), *fused.values()], repeats)
    rows = [_row(*key, times, world) for key, times in zip((*single, *fused), taken, strict=True)]
    plain = [row for row in rows[: len(single)] if row["compression"] == "none"]
    latency, rate = line([row["bytes"] for row in plain], [row["seconds"] for row in plain])
    return {
        "rows": rows[: len(single)],
        "latency_seconds": latency,
        "bytes_per_second": rate,
        "gradients": rows[len(single) :],
        "step": _step(learner, batch, size, repeats, world),
        "gradient_bytes": total,
        "ranks": world.size,
        "nodes": len(set(comm.gather(socket.gethostname()))),
        "n": repeats,
    }


def interleaved(works: list[Timed], repeats: int) -> list[list[float]]:
    """Seconds of each work in each of ``repeats`` rounds, after one that is not timed; a collective."""
    rounds = []
    for _ in range(repeats + 1):
        taken = []
        for work in works:
            comm.barrier()
            taken.append(work())
        rounds.append(taken)
    return [list(times) for times in zip(*rounds[1:], strict=True)]


def line(sizes: list[int], seconds: list[float]) -> tuple[float, float]:
    """Latency (seconds) and rate (bytes/s) that fit best: least squares of relative errors, neither negative."""
    weights = 1 / torch.tensor(seconds, dtype=torch.float64)
    terms = torch.stack((torch.ones_like(weights), torch.tensor(sizes, dtype=torch.float64)), 1)
    (latency, slope), _ = nnls((terms * weights[:, None]).numpy(), torch.ones_like(weights).numpy())
    return float(latency), 1 / float(slope) if slope else float("inf")


def _single(bytes_: int, kind: str, world: World) -> Timed:
    tensor, calls = torch.zeros(bytes_ // 4, device=world.device), max(1, min(16, SMALL // bytes_))
    return _timed(lambda: comm.mean({f"bench.{bytes_}": tensor}, kind), calls, world)


def _fused(shapes: list[torch.Size], kind: str, world: World) -> Timed:
    gradients = {f"bench.gradient.{i}": torch.zeros(shape, device=world.device) for i, shape in enumerate(shapes)}
    return _timed(lambda: comm.mean(gradients, kind), 1, world)


def _timed(work: Callable[[], object], calls: int, world: World) -> Timed:
    def timed() -> float:
        begun = time.perf_counter()
        for _ in range(calls):
            work()
        if world.device.type == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - begun) / calls

    return timed


def _row(bytes_: int, kind: str, times: list[float], world: World) -> dict[str, Any]:
    seconds = statistics.median(times)
    return {
        "bytes": bytes_,
        "compression": kind,
        "seconds": seconds,
        "spread": [min(times), max(times)],
        "bus_bandwidth": 2 * (world.size - 1) / world.size * bytes_ / seconds,
    }


def _step(learner: Any, batch: int, size: int, repeats: int, world: World) -> dict[str, Any]:
    """Seconds (medians) of a fast step ``with`` allreduces and ``without``, of rank 0.

    ``exposed`` is the median over rounds of their difference, with its ``spread``; ``waited`` is what the run's clock
    calls communication in those steps.
    """
    batches = [noise_batch(batch, size, world)]
    config = learner.config
    other = Network(copy.deepcopy(learner.model), learner.network.dtype, world.device)
    optimizer = config.optim.build(other)

    def without() -> Tensor:
        x, y, _ = batches[0]
        source = torch.Generator(world.device).manual_seed(0)
        loss = next(config.attack.losses(other, x, y, config.threat.ball, source, torch.nn.functional.cross_entropy))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    waits = []

    def distributed() -> None:
        before = learner.clock.seconds["communication"]
        learner.step(batches, config.attack, config.optim.lr, 0).item()
        waits.append(learner.clock.seconds["communication"] - before)

    both, one = interleaved([_timed(distributed, 1, world), _timed(lambda: without().item(), 1, world)], repeats)
    exposed = [a - b for a, b in zip(both, one, strict=True)]
    return {
        "with": statistics.median(both),
        "without": statistics.median(one),
        "exposed": statistics.median(exposed),
        "spread": [min(exposed), max(exposed)],
        "waited": statistics.median(waits[1:]),
    }
