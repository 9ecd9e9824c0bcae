"""The nodes of a job. One rank of each speaks for it; between those, bytes go over MPI, which needs no tensors."""

import os
import socket
from dataclasses import dataclass
from typing import Any

import horovod.torch as hvd

from hpcfast.distributed.comm import World, gather
from hpcfast.errors import UserError

VARIABLE = "HPCFAST_NODE"
"""For tests only: what the node is called, so that one machine can be several."""


@dataclass(frozen=True)
class Nodes:
    """The nodes, in the order of their first ranks."""

    names: list[str]
    here: int
    """Which of them this rank is on."""
    leads: bool
    """Whether this rank speaks for its node; the methods below are for such ranks."""
    _leaders: Any
    """Their communicator; None where there is one node."""

    @property
    def name(self) -> str:
        return self.names[self.here]

    def broadcast(self, data: memoryview, source: int) -> None:
        """Replace ``data`` by that of node ``source``; a collective."""
        if self._leaders:
            self._leaders.Bcast(data, root=source)


def find(world: World) -> Nodes:
    """Who is where; a collective.

    Raises:
        UserError: there are several nodes, but no MPI between them; on every rank.
    """
    everyone = gather(os.environ.get(VARIABLE) or socket.gethostname())
    names = list(dict.fromkeys(everyone))
    mine = everyone[world.rank]
    leads = everyone.index(mine) == world.rank
    leaders = None
    if len(names) > 1:
        if not (hvd.mpi_enabled() and hvd.mpi_threads_supported()):
            raise UserError(
                f"{len(names)} nodes, but no MPI with threads between them; start the ranks with mpirun, "
                f"srun --mpi=pmix or horovodrun --mpi"
            )
        from mpi4py import MPI  # importing it starts MPI, which a Gloo job must not do

        leaders = MPI.COMM_WORLD.Split(0 if leads else MPI.UNDEFINED, world.rank)
    return Nodes(names, names.index(mine), leads, leaders if leads else None)
