"""How gradients, BatchNorm statistics and first weights get from rank to rank."""

from collections.abc import Callable
from typing import Any

import horovod.torch as hvd
import torch
from torch import Tensor, nn

from hpcfast.allreduce import AllreduceSettings
from hpcfast.errors import UserError


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
    return lambda: hvd.synchronize(handle)


def distribute(
    optimizer: torch.optim.Optimizer, model: nn.Module, settings: AllreduceSettings, passes: int = 1
) -> torch.optim.Optimizer:
    """Wrap ``optimizer`` so that ``step`` uses the mean gradient over ranks (or Adasum's combination).

    Args:
        passes: backward passes whose gradients are added up before they are sent.

    Raises:
        UserError: Adasum was asked for in a job without MPI.
    """
    if settings.op == "adasum" and hvd.size() > 1 and not hvd.mpi_enabled():
        raise UserError("allreduce.op: adasum needs MPI; start the ranks with mpirun or horovodrun --mpi")
    return hvd.DistributedOptimizer(
        optimizer,
        named_parameters=model.named_parameters(),
        compression=HalfWire if settings.compression == "fp16" else Wire,
        backward_passes_per_step=passes,
        op=hvd.Adasum if settings.op == "adasum" else hvd.Average,
    )


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
