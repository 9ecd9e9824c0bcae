"""How gradients, BatchNorm statistics and first weights get from rank to rank."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import torch
from torch import Tensor, nn

from hpcfast.distributed.engines import Distributed
from hpcfast.distributed.joined import engine
from hpcfast.distributed.settings import AllreduceSettings
from hpcfast.distributed.status import waiting


def broadcast_parameters(model: nn.Module) -> None:
    """Give every rank rank 0's parameters and buffers."""
    with waiting("weights"):
        engine().broadcast(list(model.state_dict().values()), "weights")


def average_buffers(model: nn.Module) -> Callable[[], object]:
    """Begin to replace floating-point buffers (BatchNorm's running statistics) by their mean over ranks, in place.

    Done at every step they cost next to nothing, since they travel with the gradients while the backward pass
    runs; in return all ranks hold the same state after every step, and rank 0 can save it at any.

    Returns:
        Call it to wait for the end, before the buffers are used again.
    """
    buffers = [buffer for buffer in model.buffers() if buffer.is_floating_point()]
    if not buffers or engine().size == 1:
        return lambda: None
    handle = engine().average(buffers, "buffers")

    def wait() -> None:
        with waiting("buffers"):
            handle.result()

    return wait


def distribute(
    optimizer: torch.optim.Optimizer,
    model: nn.Module,
    settings: AllreduceSettings,
    passes: int = 1,
    summed: bool = False,
    measured: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> Distributed:
    """Have the gradients of ``optimizer`` averaged over ranks (or combined by Adasum) while the backward pass runs.

    Args:
        passes: backward passes whose gradients are added up before they are sent.
        summed: every rank has divided its loss by their number, so that the sum of gradients is their mean.
        measured: the block in which it waits for other ranks (Adasum has none: its waiting is part of its step).

    Raises:
        UserError: the engine has no such settings.
    """
    found = engine().distribute(optimizer, model, settings, passes, summed)

    def wait() -> None:
        with waiting("gradients"), measured():
            found.wait()

    return replace(found, wait=wait)


def mean(tensors: dict[str, Tensor], compression: str = "none") -> dict[str, Tensor]:
    """The mean over ranks of tensors by name, sent together where they are small; a collective."""
    return engine().mean(tensors, compression)
