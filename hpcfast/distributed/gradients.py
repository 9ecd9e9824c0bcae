"""How gradients, BatchNorm statistics and first weights get from rank to rank."""

import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import horovod.torch as hvd
import torch
from torch import Tensor, nn

from hpcfast.distributed.settings import AllreduceSettings
from hpcfast.distributed.status import waiting
from hpcfast.errors import UserError

PAUSE = 2e-4
"""Seconds between the first looks at whether gradients have been sent; steps that send any take far longer."""

CPU_CYCLE = 20.0
"""Milliseconds between looks for ready gradients on CPUs, while any are under way and no rank waits for them.

Horovod's thread asks the other ranks at each look, which takes 0.5 to 1 ms of a core of the ranks. Horovod as
`scripts/setup` builds it looks at once when a rank waits, and rarely while there is nothing to send; another Horovod
looks always, and lets ready gradients wait for the next look, which costs steps of 40 ms a third.
"""


def slow_down() -> None:
    """Have Horovod look for gradients less often on CPUs, unless its user says how often; before it starts."""
    if not torch.cuda.is_available():
        os.environ.setdefault("HOROVOD_CYCLE_TIME", str(CPU_CYCLE))


def broadcast_parameters(model: nn.Module) -> None:
    """Give every rank rank 0's parameters and buffers."""
    views = {name: Wire.compress(tensor)[0] for name, tensor in model.state_dict().items()}
    hvd.broadcast_parameters(views, root_rank=0)


def average_buffers(model: nn.Module) -> Callable[[], object]:
    """Begin to replace floating-point buffers (BatchNorm's running statistics) by their mean over ranks, in place.

    Done at every step they cost next to nothing, since they travel with the gradients while the backward pass
    runs; in return all ranks hold the same state after every step, and rank 0 can save it at any.

    Returns:
        Call it to wait for the end, before the buffers are used again.
    """
    buffers = [buffer for buffer in model.buffers() if buffer.is_floating_point()]
    if not buffers or hvd.size() == 1:
        return lambda: None
    handle = hvd.grouped_allreduce_async_(buffers, op=hvd.Average, name="buffers")

    def wait() -> None:
        with waiting("buffers"):
            finish(handle)

    return wait


def distribute(
    optimizer: torch.optim.Optimizer,
    model: nn.Module,
    settings: AllreduceSettings,
    passes: int = 1,
    summed: bool = False,
    measured: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> torch.optim.Optimizer:
    """Wrap ``optimizer`` so that ``step`` uses the mean gradient over ranks (or Adasum's combination).

    Args:
        passes: backward passes whose gradients are added up before they are sent.
        summed: every rank has divided its loss by their number, so that the sum of gradients is their mean.
        measured: the block in which it waits for other ranks (Adasum has none: its waiting is part of its step).

    Raises:
        UserError: Adasum was asked for in a job without MPI.
    """
    if settings.op == "adasum" and hvd.size() > 1 and not hvd.mpi_enabled():
        raise UserError("allreduce.op: adasum needs MPI; start the ranks with mpirun or horovodrun --mpi")
    distributed: Any = hvd.DistributedOptimizer(
        optimizer,
        named_parameters=model.named_parameters(),
        compression=_wire(settings.compression),
        backward_passes_per_step=passes,
        op=hvd.Adasum if settings.op == "adasum" else hvd.Sum if summed else hvd.Average,
    )
    synchronize = distributed.synchronize

    def wait() -> None:
        with waiting("gradients"), measured():
            for handle, _ in distributed._handles.values():
                rest(handle)
            synchronize()

    distributed.synchronize = wait  # which step() calls
    return distributed


def rest(handle: int | None) -> None:
    """Let others have the core until what ``handle`` stands for has been sent.

    Horovod would ask again and again without a pause, and so keep its own threads, and other ranks, from working.
    Pauses grow with the wait, to which they may add a twentieth.
    """
    begun = time.perf_counter()
    while handle is not None and not hvd.poll(handle):
        time.sleep(max(PAUSE, (time.perf_counter() - begun) / 20))


def finish(handle: int) -> Tensor:
    """What the collective ``handle`` stands for results in."""
    rest(handle)
    return hvd.synchronize(handle)


def mean(tensors: dict[str, Tensor], compression: str = "none") -> dict[str, Tensor]:
    """The mean over ranks of tensors by name, which Horovod sends together where they are small; a collective."""
    wire = _wire(compression)
    packed = {name: wire.compress(tensor) for name, tensor in tensors.items()}
    handles = {name: hvd.allreduce_async(sent, op=hvd.Average, name=name) for name, (sent, _) in packed.items()}
    return {name: wire.decompress(finish(handles[name]), how) for name, (_, how) in packed.items()}


def start_timeline(file: Path) -> None:
    """Have Horovod write when each tensor was asked for and sent, until :func:`stop_timeline`; Chrome's trace format.

    Only where HOROVOD_TIMELINE was DYNAMIC when Horovod was started.
    """
    hvd.start_timeline(str(file))


def stop_timeline() -> None:
    """End it."""
    hvd.stop_timeline()


class Wire:
    """Hands gradients laid out channels-last to Horovod, which insists on contiguous tensors, as permuted views."""

    precision = hvd.Compression.none

    @classmethod
    def compress(cls, tensor: Tensor) -> tuple[Tensor, Any]:
        turned = tensor.dim() == 4 and not tensor.is_contiguous()
        sent, context = cls.precision.compress(tensor.permute(0, 2, 3, 1) if turned else tensor)
        return sent, (turned, context)

    @classmethod
    def decompress(cls, tensor: Tensor, context: Any) -> Tensor:
        turned, inner = context
        received = cls.precision.decompress(tensor, inner)
        return received.permute(0, 3, 1, 2) if turned else received


class HalfWire(Wire):
    """The same in half precision."""

    precision = hvd.Compression.fp16


def _wire(compression: str) -> type[Wire]:
    return HalfWire if compression == "fp16" else Wire
