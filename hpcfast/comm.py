"""The ranks of a job: the only file that knows Horovod and MPI.

Everything else sees a :class:`World` (numbers) and the few collectives below. Every collective has a name: an
unnamed one after ranks ran unequal numbers of operations hangs without an error.
"""

import os
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn, TypeVar

import horovod.torch as hvd
import torch
from horovod.common.exceptions import HorovodInternalError

from hpcfast import launcher
from hpcfast.errors import UserError

T = TypeVar("T")

PeerLost = HorovodInternalError
"""Raised by every collective once another rank has died."""


@dataclass(frozen=True)
class World:
    """This process among the ranks of the job."""

    rank: int
    size: int
    local_rank: int
    threads: int
    """This rank's fair share of its machine's cores: more threads than cores make every rank slower."""

    @property
    def is_root(self) -> bool:
        return self.rank == 0

    @property
    def device(self) -> torch.device:
        """The rank's own GPU where there are GPUs, the CPU otherwise."""
        if torch.cuda.is_available():
            return torch.device("cuda", self.local_rank % torch.cuda.device_count())
        return torch.device("cpu")


def init() -> World:
    """Join the job this process was started in (horovodrun, mpirun), or be a job of one rank."""
    if launcher.rank() is None:
        # Alone, Horovod would start MPI, which not every machine can do without mpirun.
        os.environ.update(HOROVOD_CONTROLLER="gloo", HOROVOD_CPU_OPERATIONS="gloo")
    hvd.init()
    world = World(hvd.rank(), hvd.size(), hvd.local_rank(), _share_of_cores())
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(world.threads)
    if world.device.type == "cuda":
        torch.cuda.set_device(world.device)
    return world


def together(work: Callable[[], T]) -> T:
    """Run ``work`` on every rank; where any rank raises UserError, all ranks raise the first one's.

    For checks whose outcome may differ between nodes (is the data set there?): without this the healthy ranks
    would wait for ever for the others.
    """
    outcome = _attempt(work)
    errors = hvd.allgather_object(outcome[1], name="together")
    _raise_first(errors)
    return outcome[0]  # type: ignore[return-value]  # no error: there is a result


def on_root(work: Callable[[], T]) -> T:
    """Run ``work`` on rank 0 only and return its result, or raise its UserError, on every rank."""
    outcome = _attempt(work) if hvd.rank() == 0 else None
    result, error = hvd.broadcast_object(outcome, root_rank=0, name="on_root")
    _raise_first([error])
    return result


def total(counts: torch.Tensor) -> torch.Tensor:
    """Sum ``counts`` (int64 or float64) over all ranks."""
    return hvd.allreduce(counts, op=hvd.Sum, name="total")


def barrier() -> None:
    """Wait until every rank has come here."""
    hvd.allreduce(torch.zeros(1), name="barrier")


def average_buffers(model: torch.nn.Module) -> None:
    """Replace floating-point buffers (BatchNorm's running statistics) by their mean over ranks, in place."""
    buffers = [buffer for _, buffer in model.named_buffers() if buffer.is_floating_point()]
    if buffers and hvd.size() > 1:
        hvd.grouped_allreduce_(buffers, op=hvd.Average, name="buffers")


def broadcast_parameters(model: torch.nn.Module) -> None:
    """Give every rank rank 0's parameters and buffers."""
    hvd.broadcast_parameters(model.state_dict(), root_rank=0)


def distribute(
    optimizer: torch.optim.Optimizer, model: torch.nn.Module, compression: str = "none"
) -> torch.optim.Optimizer:
    """Wrap ``optimizer`` so that ``step`` uses the mean gradient over ranks.

    Args:
        compression: "fp16" sends gradients in half precision, "none" as they are.
    """
    return hvd.DistributedOptimizer(
        optimizer, named_parameters=model.named_parameters(), compression=getattr(hvd.Compression, compression)
    )


def abort() -> NoReturn:
    """End this rank, and with it the job, at once: an orderly exit would wait for ranks that wait for us."""
    if hvd.is_initialized() and hvd.mpi_enabled() and hvd.size() > 1:
        from mpi4py import MPI  # importing it starts MPI, which a Gloo job must not do

        MPI.COMM_WORLD.Abort(1)
    os._exit(1)


def _share_of_cores() -> int:
    """Cores this rank may use, each divided by the ranks of this machine that may use it too (at least 1).

    Launchers differ: some bind each rank to cores of its own, some let all ranks use all.
    """
    mine = os.sched_getaffinity(0)
    everyone = hvd.allgather_object((socket.gethostname(), sorted(mine)), name="cores")
    here = Counter(core for host, cores in everyone if host == socket.gethostname() for core in cores)
    return max(1, int(sum(1 / here[core] for core in mine) + 1e-6))


def _attempt(work: Callable[[], T]) -> tuple[T | None, str | None]:
    try:
        return work(), None
    except UserError as error:
        return None, str(error)


def _raise_first(errors: list[str | None]) -> None:
    for error in errors:
        if error is not None:
            raise UserError(error)
