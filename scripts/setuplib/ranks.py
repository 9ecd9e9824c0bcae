"""A rank of the proof: `mpirun -n 2 python ranks.py mpi`, `horovodrun --gloo -np 2 python ranks.py gloo`."""

import sys

import horovod.torch as hvd
import torch


def main(controller: str) -> None:
    """Sum ones over two ranks and compare what the layers say."""
    if controller == "mpi":
        # Before hvd.init(): who starts MPI ends it, and Horovod would do so when the first rank leaves.
        from mpi4py import MPI
    hvd.init()
    total = hvd.allreduce(torch.ones(3), op=hvd.Sum, name="proof").tolist()
    actual = "mpi" if hvd.mpi_enabled() else "gloo"
    if (actual, hvd.size(), total) != (controller, 2, [2.0] * 3):
        sys.exit(f"over {controller}, 2 ranks and a sum of 2 were expected: {actual}, {hvd.size()}, {total}")
    if controller == "mpi":
        world = MPI.COMM_WORLD
        if (world.rank, world.size) != (hvd.rank(), hvd.size()):
            sys.exit(f"mpi4py: rank {world.rank} of {world.size}; Horovod: {hvd.rank()} of {hvd.size()}")


main(sys.argv[1])
