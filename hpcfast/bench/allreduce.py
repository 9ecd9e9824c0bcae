"""What it costs that ranks exchange gradients: allreduces by size, and of a network's gradients together."""

import socket
from functools import partial
from typing import Any

import torch
from scipy.optimize import nnls
from torch import Tensor

from hpcfast.bench import Taken, spread, take_turns
from hpcfast.component import validate
from hpcfast.distributed import comm
from hpcfast.distributed.comm import World
from hpcfast.errors import UserError
from hpcfast.models import ModelSettings

SIZES = tuple(1024 * 4**power for power in range(9))
"""Bytes: 1 KiB to 64 MiB."""
COMPRESSIONS = ("none", "fp16")
SMALL = 1024**2
"""Bytes up to which several calls are timed at once."""


def measure(model: str, repeats: int, world: World) -> dict[str, Any]:
    """Time allreduces of float32 tensors, side by side; a collective.

    Args:
        model: whose gradients are sent.
        repeats: timed rounds, after one that is not.

    Returns:
        ``rows``, by ``bytes`` and ``compression``: ``seconds`` (median), ``spread`` (least, greatest),
        ``bus_bandwidth`` (bytes/s that each link carries in a ring); ``latency_seconds`` and ``bytes_per_second``,
        fitted to those without compression; ``gradients``: the same rows for all of the model's, which Horovod fuses,
        and ``gradient_bytes``; ``ranks``, ``nodes``, ``n``.

    Raises:
        UserError: there is only one rank.
    """
    if world.size == 1:
        raise UserError("bench allreduce: one rank has no peer to send to; start it under horovodrun, mpirun or srun")
    network = validate(ModelSettings, {"name": model, "mean": [0.5] * 3, "std": [0.25] * 3}).build(classes=10)
    single = [{f"bench.{bytes_}": torch.zeros(bytes_ // 4, device=world.device)} for bytes_ in SIZES]
    fused = {
        f"bench.gradient.{i}": torch.zeros(each.shape, device=world.device)
        for i, each in enumerate(network.parameters())
    }
    cases = [(tensors, kind) for tensors in (*single, fused) for kind in COMPRESSIONS]
    taken = take_turns({i: partial(_send, *case, world) for i, case in enumerate(cases)}, repeats, before=comm.barrier)
    found = [_row(*case, taken[i], world) for i, case in enumerate(cases)]
    rows, gradients = found[: -len(COMPRESSIONS)], found[-len(COMPRESSIONS) :]
    plain = [row for row in rows if row["compression"] == "none"]
    latency, rate = line([row["bytes"] for row in plain], [row["seconds"] for row in plain])
    return {
        "rows": rows,
        "latency_seconds": latency,
        "bytes_per_second": rate,
        "gradients": gradients,
        "gradient_bytes": _bytes(fused),
        "ranks": world.size,
        "nodes": len(set(comm.gather(socket.gethostname()))),
        "n": repeats,
    }


def line(sizes: list[int], seconds: list[float]) -> tuple[float, float]:
    """Latency (seconds) and rate (bytes/s) that fit best: least squares of relative errors, neither negative."""
    weights = 1 / torch.tensor(seconds, dtype=torch.float64)
    terms = torch.stack((torch.ones_like(weights), torch.tensor(sizes, dtype=torch.float64)), 1)
    (latency, slope), _ = nnls((terms * weights[:, None]).numpy(), torch.ones_like(weights).numpy())
    return float(latency), 1 / float(slope) if slope else float("inf")


def _send(tensors: dict[str, Tensor], kind: str, world: World) -> None:
    for _ in range(_calls(tensors)):
        comm.mean(tensors, kind)
    if world.device.type == "cuda":
        torch.cuda.synchronize()


def _bytes(tensors: dict[str, Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors.values())


def _calls(tensors: dict[str, Tensor]) -> int:
    """How often small ones are sent in one round."""
    return max(1, min(16, SMALL // _bytes(tensors))) if len(tensors) == 1 else 1


def _row(tensors: dict[str, Tensor], kind: str, taken: list[Taken], world: World) -> dict[str, Any]:
    seconds = spread([one.wall / _calls(tensors) for one in taken])
    return {
        "bytes": _bytes(tensors),
        "compression": kind,
        "seconds": seconds.median,
        "spread": [seconds.low, seconds.high],
        "bus_bandwidth": 2 * (world.size - 1) / world.size * _bytes(tensors) / seconds.median,
    }
