"""The ranks of a job.

Everything else sees a :class:`World` (numbers) and the few collectives below. Every collective has a name: an
unnamed one after ranks ran unequal numbers of operations hangs without an error.
"""

import os
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

# MPI may bring UCX along, whose handler of crashes waits for the heap's lock: in a damaged heap it never gets it, and
# the job hangs instead of ending. It looks when it is loaded.
os.environ.setdefault("UCX_HANDLE_ERRORS", "none")

import horovod.torch as hvd
import torch
from horovod.common.exceptions import HorovodInternalError

from hpcfast.distributed import launcher, objects, rendezvous
from hpcfast.distributed.elastic import commit, elastically
from hpcfast.distributed.gradients import (
    average_buffers,
    broadcast_parameters,
    distribute,
    finish,
    mean,
    slow_down,
    start_timeline,
    stop_timeline,
)
from hpcfast.distributed.status import EXIT_LOST, leave_traces, peers, set_status, tell_before_end, waiting, watch
from hpcfast.errors import UserError

__all__ = [
    "EXIT_LOST",
    "PeerLost",
    "Vote",
    "World",
    "abort",
    "average_buffers",
    "barrier",
    "broadcast_parameters",
    "commit",
    "distribute",
    "elastically",
    "gather",
    "init",
    "join",
    "leave_traces",
    "mean",
    "on_root",
    "peers",
    "raise_on_all_ranks",
    "set_status",
    "start_timeline",
    "stop_timeline",
    "tell_before_end",
    "total",
]

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
    cores: int = 1
    """Of this machine, which its ranks may use together."""
    nodes: int = 1
    """On which the ranks are."""

    @property
    def is_root(self) -> bool:
        return self.rank == 0

    @property
    def device(self) -> torch.device:
        """The rank's own GPU where there are GPUs, the CPU otherwise."""
        if torch.cuda.is_available():
            return torch.device("cuda", self.local_rank % torch.cuda.device_count())
        return torch.device("cpu")


def init(gpus: bool = True) -> World:
    """Join the job this process was started in (launcher.LAUNCHERS, srun), or be a job of one rank.

    Args:
        gpus: the work uses those that the job has; without any that torch sees it would run on CPUs, for days.

    Raises:
        UserError: the ranks do not find one another (a ConnectionError where only some know), or do not see their GPUs.
    """
    slow_down()
    if launcher.is_pbs_task():
        raise UserError(
            "pbsdsh starts processes that cannot find one another: start the ranks with mpirun or mpiexec in the batch "
            "script; or, if each is to work alone, unset PBS_TASKNUM first"
        )
    if launcher.rank() is None or launcher.mpi_aborts():
        # Alone, Horovod would start MPI, which not every machine can do without mpirun.
        os.environ.update(HOROVOD_CONTROLLER="gloo", HOROVOD_CPU_OPERATIONS="gloo")
    elif (step := launcher.slurm_step()) and not launcher.is_complete(hvd.mpi_built()):
        rendezvous.meet(step)
    rendezvous.listen_there()
    hvd.init()
    if launcher.size() not in (None, hvd.size()):
        raise UserError(
            f"this is rank {launcher.rank()} of {launcher.size()}, but Horovod finds {hvd.size()}: its MPI does not "
            "know this launcher; use that MPI's own mpirun or mpiexec, or with Slurm srun --mpi=none (Gloo, no MPI) or "
            "srun --mpi=pmix; docs/batch-systems.md says what jsrun and flux run need"
        )
    if gpus:
        raise_on_all_ranks(_see_gpus)
    world = join()
    here = "127.0.0.1" if hvd.local_size() == world.size else os.environ.get(rendezvous.ADDRESS, "")
    watch(world.rank, world.size, here, on_root)
    return world


def _see_gpus() -> None:
    """Refuse CPUs where Slurm has given the job GPUs."""
    given = int(os.environ.get("SLURM_GPUS_ON_NODE") or 0)
    if given and not torch.cuda.is_available():
        cause = "its driver is missing or too old for this torch, or a container was started without --nv"
        if torch.version.cuda is None:
            cause = "this torch is built for CPUs: set up anew with one for CUDA"
        raise UserError(
            f"Slurm has given this job {given} GPUs on {socket.gethostname()}, and torch {torch.__version__} sees "
            f"none: {cause}. To train on CPUs: sbatch --gpus-per-node=0"
        )


def join() -> World:
    """Who this process is, once Horovod runs; a collective."""
    mine = sorted(os.sched_getaffinity(0))
    everyone = gather((socket.gethostname(), mine))
    nodes = len({host for host, _ in everyone})
    world = World(hvd.rank(), hvd.size(), hvd.local_rank(), *shares(mine, everyone), nodes)
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(world.threads)
    if world.device.type == "cuda":
        torch.cuda.set_device(world.device)
    return world


def shares(mine: list[int], everyone: list[tuple[str, list[int]]]) -> tuple[int, int]:
    """A rank's fair share of its machine's cores, at least 1, and those that all ranks here may use.

    Args:
        mine: cores that this rank may use: srun and mpirun give each rank its own, horovodrun gives all to each.
        everyone: every rank's machine and cores.
    """
    users = Counter(core for host, cores in everyone if host == socket.gethostname() for core in cores)
    return max(1, int(sum(1 / users[core] for core in mine) + 1e-6)), len(users)


def raise_on_all_ranks(work: Callable[[], T]) -> T:
    """Run ``work`` on every rank; where any rank raises UserError, all ranks raise the first one's.

    For checks whose outcome may differ between nodes (is the data set there?): without this the healthy ranks
    would wait permanently for the others.
    """
    outcome = _attempt(work)
    _raise_first(gather(outcome[1]))
    return outcome[0]  # type: ignore[return-value]  # no error: there is a result


def gather(value: T) -> list[T]:
    """Every rank's ``value``, by rank, on every rank."""
    mine = objects.packed(value)
    with waiting("gather"):
        sizes = finish(hvd.allgather_async(torch.tensor([len(mine)]), name="gather.sizes")).tolist()
        everyone = finish(hvd.allgather_async(mine, name="gather"))
    return [objects.unpack(each.numpy().data) for each in everyone.split(sizes)]


def on_root(work: Callable[[], T]) -> T:
    """Run ``work`` on rank 0 only and return its result, or raise its UserError, on every rank."""
    sent = objects.packed(_attempt(work)) if hvd.rank() == 0 else torch.empty(0, dtype=torch.uint8)
    with waiting("on_root"):
        size = finish(hvd.broadcast_async(torch.tensor([len(sent)]), root_rank=0, name="on_root.size"))
        outcome = finish(hvd.broadcast_async(sent.resize_(int(size)), root_rank=0, name="on_root"))
    result, error = objects.unpack(outcome.numpy().data)
    _raise_first([error])
    return result


def total(counts: torch.Tensor) -> torch.Tensor:
    """Sum ``counts`` (int64 or float64) over all ranks."""
    with waiting("total"):
        return finish(hvd.allreduce_async(counts, op=hvd.Sum, name="total"))


def barrier() -> None:
    """Wait until every rank has come here."""
    with waiting("barrier"):
        finish(hvd.allreduce_async(torch.zeros(1), op=hvd.Sum, name="barrier"))


class Vote:
    """Votes that ranks cast at every step; each is counted at the next, so that nobody waits for it."""

    def __init__(self) -> None:
        self._open: Any = None

    def cast(self, *votes: bool) -> list[int]:
        """Vote, and return how many ranks voted for each at the call before; all zeros at the first."""
        before = self.count() or [0] * len(votes)
        self._open = hvd.allreduce_async(torch.tensor(votes, dtype=torch.int32), op=hvd.Sum, name="vote")
        return before

    def count(self) -> list[int]:
        """Count the votes that are out, and close the vote; empty where none was cast."""
        if self._open is None:
            return []
        with waiting("vote"):
            counts: list[int] = finish(self._open).tolist()
        self._open = None
        return counts


def abort(code: int = 1) -> NoReturn:
    """End this rank, and with it the job, at once: an orderly exit would wait for ranks that wait for us."""
    if hvd.is_initialized() and hvd.mpi_enabled() and hvd.size() > 1:
        from mpi4py import MPI  # importing it starts MPI, which a Gloo job must not do

        MPI.COMM_WORLD.Abort(code)
    os._exit(code)


def _attempt(work: Callable[[], T]) -> tuple[T | None, str | None]:
    try:
        return work(), None
    except UserError as error:
        return None, str(error)


def _raise_first(errors: list[str | None]) -> None:
    for error in errors:
        if error is not None:
            raise UserError(error)
