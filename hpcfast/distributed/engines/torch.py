"""torch.distributed: NCCL for tensors on GPUs, Gloo for those on CPUs."""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from hpcfast.distributed import launcher, rendezvous
from hpcfast.distributed.buckets import Bucket
from hpcfast.distributed.engines import Distributed, Engine
from hpcfast.distributed.settings import AllreduceSettings
from hpcfast.distributed.store import TableStore
from hpcfast.errors import UserError

BUCKET = 25 * 2**20
"""Bytes of gradients that are sent together, as in torch's DistributedDataParallel."""


class PeerLost(Exception):
    """Another rank has died."""


@contextmanager
def _telling() -> Iterator[None]:
    """Where a rank has gone, NCCL raises a DistError and Gloo a plain RuntimeError, of which it says the place."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or "gloo/transport" in str(error):
            raise PeerLost(str(error)) from error
        raise


def _begin(tensor: Tensor) -> Any:
    """Begin to add ``tensor`` up over all ranks, in place."""
    with _telling():
        return dist.all_reduce(tensor, async_op=True)


def _check_cpu() -> None:
    """Raise UserError unless the default process group, which somebody else has made, carries CPU tensors too."""
    try:
        dist.all_reduce(torch.zeros(1))
    except RuntimeError as error:
        if "device type" not in str(error):
            raise
        raise UserError(
            f"this process's group ({dist.get_backend()}) carries no CPU tensors, which hpcfast sends too; make it by "
            f"init_process_group('cpu:gloo,cuda:nccl')"
        ) from None


@dataclass(frozen=True)
class _Handle:
    work: Any
    finish: Callable[[], Any]

    def result(self) -> Any:
        with _telling():
            self.work.wait()
        return self.finish()


class Torch(Engine):
    """The ranks of torchrun, or of srun."""

    name, lost = "torch", PeerLost

    def __init__(self) -> None:
        """Join the job.

        Raises:
            UserError: the ranks do not find one another (a ConnectionError where only some know).
        """
        step = launcher.torchrun_step() or launcher.slurm_step()
        if step is None:
            raise UserError(
                "engine: torch needs ranks that torchrun (torchrun --nproc-per-node N -m hpcfast train …) or srun has "
                "started; for one process take engine: single"
            )
        client, server, interface = rendezvous.find(step)
        if interface:  # Gloo would take the address of the host's name, which on many machines is 127.0.1.1
            os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
        self.rank, self.size, self.local_rank = step.rank, step.size, step.local_rank
        self.local_size, self.carrier = step.tasks[step.node], "Gloo"
        self.address = rendezvous.address_of(os.environ.get("GLOO_SOCKET_IFNAME", ""))
        cuda = torch.cuda.is_available()
        if cuda:
            torch.cuda.set_device(self.local_rank % torch.cuda.device_count())
        if dist.is_initialized():  # by a script that calls us
            _check_cpu()
            return
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if cuda else "gloo", store=TableStore(client, server), rank=self.rank,
            world_size=self.size, timeout=timedelta(seconds=launcher.patience()),
        )  # fmt: skip

    def sum(self, tensor: Tensor, name: str) -> _Handle:
        summed = tensor.clone()
        return _Handle(_begin(summed), lambda: summed)

    def average(self, tensors: Sequence[Tensor], name: str) -> _Handle:
        bucket = Bucket(tensors)
        bucket.fill(tensors)

        def finish() -> None:
            bucket.flat.div_(self.size)
            torch._foreach_copy_(list(tensors), bucket.views)

        return _Handle(_begin(bucket.flat), finish)

    def broadcast(self, tensors: Sequence[Tensor], name: str) -> None:
        with _telling():
            for tensor in tensors:
                dense = tensor.contiguous()
                dist.broadcast(dense, 0)
                tensor.copy_(dense)

    def gather(self, data: Tensor, name: str) -> list[Tensor]:
        with _telling():
            sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
            dist.all_gather(sizes, torch.tensor([len(data)]))
            lengths = [int(size) for size in sizes]
            padded = torch.zeros(max(lengths), dtype=data.dtype)
            padded[: len(data)] = data
            found = [torch.empty_like(padded) for _ in lengths]
            dist.all_gather(found, padded)
        return [each[:length] for each, length in zip(found, lengths, strict=True)]

    def distribute(
        self, optimizer: torch.optim.Optimizer, model: nn.Module, settings: AllreduceSettings, passes: int, summed: bool
    ) -> Distributed:
        if settings.op == "adasum":
            raise UserError("allreduce.op: adasum is Horovod's; use op: average, or engine: horovod with mpirun")
        parameters = [each for each in model.parameters() if each.requires_grad]
        half = settings.compression == "fp16"
        return Distributed(optimizer, Gradients(parameters, passes, 1 if summed else self.size, half).wait)

    @property
    def about(self) -> str:
        return f"torch.distributed, Gloo{' NCCL' if self.reaches_gpus else ''}"

    @property
    def reaches_gpus(self) -> bool:
        return dist.is_nccl_available()

    def mean(self, tensors: dict[str, Tensor], compression: str) -> dict[str, Tensor]:
        bucket = Bucket(list(tensors.values()))
        bucket.fill(list(tensors.values()))
        sent = bucket.flat.half() if compression == "fp16" else bucket.flat
        with _telling():
            dist.all_reduce(sent)
        bucket.flat.copy_(sent).div_(self.size)
        return dict(zip(tensors, bucket.views, strict=True))


@dataclass
class _Shipment:
    """Parameters whose gradients are sent together."""

    parameters: list[nn.Parameter]
    missing: int = 0
    """Gradients that this step's backward passes have not computed yet."""
    bucket: Bucket = field(init=False)
    sent: Tensor = field(init=False)
    handle: Any = None

    def __post_init__(self) -> None:
        self.bucket = Bucket(self.parameters)


class Gradients:
    """Adds the gradients of ``parameters`` up over ranks while the backward pass runs."""

    def __init__(self, parameters: Sequence[nn.Parameter], passes: int, divisor: int, half: bool) -> None:
        self._passes, self._divisor, self._half = passes, divisor, half
        self._shipments = [_Shipment(group) for group in _groups(parameters)]
        self._of = {each: shipment for shipment in self._shipments for each in shipment.parameters}
        self._next = 0
        self._lock = threading.Lock()  # each device has a thread of its own that computes gradients
        for parameter in parameters:
            parameter.register_post_accumulate_grad_hook(self._arrived)
        self._reset()

    def _reset(self) -> None:
        self._next = 0
        for shipment in self._shipments:
            shipment.missing, shipment.handle = len(shipment.parameters) * self._passes, None

    def _arrived(self, parameter: Tensor) -> None:
        with self._lock:
            self._of[parameter].missing -= 1  # type: ignore[index]  # hooks are given parameters
            # All ranks must send in the same order.
            while self._next < len(self._shipments) and self._shipments[self._next].missing == 0:
                self._send(self._shipments[self._next])

    def _send(self, shipment: _Shipment) -> None:
        self._next += 1
        shipment.bucket.fill([each.grad for each in shipment.parameters])
        flat = shipment.bucket.flat
        shipment.sent = flat.half() if self._half else flat
        shipment.handle = _begin(shipment.sent)

    def wait(self) -> None:
        """Give each parameter the gradient of all ranks; one that has none on this rank counts as zero."""
        for shipment in self._shipments[self._next :]:
            self._send(shipment)
        for shipment in self._shipments:
            with _telling():
                shipment.handle.wait()
            if self._divisor > 1:
                shipment.sent.div_(self._divisor)
            if self._half:
                shipment.bucket.flat.copy_(shipment.sent)
            for parameter, view in zip(shipment.parameters, shipment.bucket.views, strict=True):
                if parameter.grad is not None:
                    parameter.grad = view
        self._reset()


def _groups(parameters: Sequence[nn.Parameter]) -> list[list[nn.Parameter]]:
    """In the order in which gradients come, the last layer's first."""
    groups: list[list[nn.Parameter]] = []
    room = 0
    for parameter in reversed(parameters):
        fits = groups and groups[-1][0].dtype == parameter.dtype and parameter.nbytes <= room
        if not fits:
            groups.append([])
            room = BUCKET
        groups[-1].append(parameter)
        room -= parameter.nbytes
    return groups
