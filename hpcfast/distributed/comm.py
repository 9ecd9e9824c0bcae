"""The ranks of a job.

Everything else sees a :class:`World` (numbers) and the few collectives below. Every collective has a name: an
unnamed one after ranks ran unequal numbers of operations hangs without an error.
"""

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import torch
from torch import Tensor

from hpcfast.distributed import joined, launcher, machine, objects
from hpcfast.distributed.engines import choice
from hpcfast.distributed.gradients import average_buffers, broadcast_parameters, distribute, mean
from hpcfast.distributed.joined import chosen, engine, lost_a_peer
from hpcfast.distributed.status import EXIT_LOST, leave_traces, peers, set_status, tell_before_end, waiting, watch
from hpcfast.errors import UserError, to_cure

__all__ = [
    "EXIT_LOST",
    "Vote",
    "World",
    "abort",
    "average_buffers",
    "barrier",
    "broadcast_parameters",
    "chosen",
    "commit",
    "distribute",
    "elastically",
    "engine",
    "gather",
    "init",
    "join",
    "leave_traces",
    "lost_a_peer",
    "mean",
    "on_root",
    "peers",
    "raise_on_all_ranks",
    "set_status",
    "tell_before_end",
    "total",
]

T = TypeVar("T")


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


def init(setting: str = "auto", gpus: bool = True) -> World:
    """Join the job this process was started in (launcher.LAUNCHERS, torchrun, srun), or be a job of one rank.

    Args:
        setting: the engine.
        gpus: the work uses those that the job has; without any that torch sees it would run on CPUs, for days.

    Raises:
        UserError: there is no such engine, the ranks do not find one another (a ConnectionError where only some know),
            or do not see their GPUs.
    """
    if launcher.is_pbs_task():
        raise UserError(
            "pbsdsh starts processes that cannot find one another: start the ranks with mpirun or mpiexec in the batch "
            "script; or, if each is to work alone, unset PBS_TASKNUM first"
        )
    why = choice.choose(setting)
    carrier = choice.load(why)
    joined.join(why, carrier)
    if gpus:
        raise_on_all_ranks(machine.see_gpus)
    world = join()
    here = "127.0.0.1" if carrier.local_size == world.size else carrier.address
    watch(world.rank, world.size, here, on_root)
    return world


def join() -> World:
    """Who this process is; a collective."""
    mine = sorted(os.sched_getaffinity(0))
    known = engine()
    known.look()
    everyone = gather((socket.gethostname(), mine))
    nodes = len({host for host, _ in everyone})
    world = World(known.rank, known.size, known.local_rank, *machine.shares(mine, everyone), nodes)
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(world.threads)
    if world.device.type == "cuda":
        torch.cuda.set_device(world.device)
    return world


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
    with waiting("gather"):
        everyone = engine().gather(objects.packed(value), "gather")
    return [objects.unpack(each.numpy().data) for each in everyone]


def on_root(work: Callable[[], T]) -> T:
    """Run ``work`` on rank 0 only and return its result, or raise its UserError, on every rank."""
    sent = objects.packed(_attempt(work)) if engine().rank == 0 else torch.empty(0, dtype=torch.uint8)
    with waiting("on_root"):
        size = torch.tensor([len(sent)])
        engine().broadcast([size], "on_root.size")
        engine().broadcast([sent.resize_(int(size))], "on_root")
    result, error = objects.unpack(sent.numpy().data)
    _raise_first([error])
    return result


def total(counts: Tensor) -> Tensor:
    """Sum ``counts`` (int64 or float64) over all ranks."""
    with waiting("total"):
        return engine().sum(counts, "total").result()


def barrier() -> None:
    """Wait until every rank has come here."""
    with waiting("barrier"):
        engine().sum(torch.zeros(1), "barrier").result()


class Vote:
    """Votes that ranks cast at every step; each is counted at the next, so that nobody waits for it."""

    def __init__(self) -> None:
        self._open: Any = None

    def cast(self, *votes: bool) -> list[int]:
        """Vote, and return how many ranks voted for each at the call before; all zeros at the first."""
        before = self.count() or [0] * len(votes)
        self._open = engine().sum(torch.tensor(votes, dtype=torch.int32), "vote")
        return before

    def count(self) -> list[int]:
        """Count the votes that are out, and close the vote; empty where none was cast."""
        if self._open is None:
            return []
        with waiting("vote"):
            counts: list[int] = self._open.result().tolist()
        self._open = None
        return counts


def elastically(work: Callable[[], T]) -> T:
    """Run ``work`` on all ranks there are, from its beginning again each time their number has changed.

    Ranks that join begin with ``work`` too, so no collective may come before it.

    Raises:
        UserError: the job was not started elastically.
    """
    if os.environ.get("HOROVOD_ELASTIC") != "1":
        raise UserError("--elastic: start the job with horovodrun --min-np N --host-discovery-script FILE")
    from hpcfast.distributed.engines.elastic import ElasticHorovod

    elastic = ElasticHorovod()
    joined.join(choice.Choice("horovod", "elastic jobs are Horovod's"), elastic)
    return elastic.run(work)


def commit() -> None:
    """Where a checkpoint has just been saved: begin anew if ranks want to join or must leave; a collective.

    Does nothing in a job that is not elastic.
    """
    engine().commit()


def abort(code: int = 1) -> NoReturn:
    """End this rank, and with it the job, at once: an orderly exit would wait for ranks that wait for us."""
    joined.abort(code)
    os._exit(code)


def _attempt(work: Callable[[], T]) -> tuple[T | None, str | None]:
    try:
        return work(), None
    except (UserError, OSError) as error:
        if (said := to_cure(error)) is None:
            raise
        return None, said


def _raise_first(errors: list[str | None]) -> None:
    for error in errors:
        if error is not None:
            raise UserError(error)
