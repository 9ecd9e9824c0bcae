"""What Horovod and MPI say of themselves, for ``hpcfast doctor``."""

import horovod
import horovod.torch as hvd
from torch import Tensor


def version() -> str:
    """Horovod's."""
    return str(horovod.__version__)


def features() -> str:
    """What Horovod was compiled with."""
    built = {"Gloo": hvd.gloo_built(), "MPI": hvd.mpi_built(), "NCCL": hvd.nccl_built()}
    return " ".join(name for name, there in built.items() if there)


def mpi() -> str | None:
    """The MPI that carries this job, None where Gloo does."""
    if not hvd.mpi_enabled():
        return None
    from mpi4py import MPI  # importing it starts MPI, which a Gloo job must not do

    return str(MPI.Get_library_version().split(",")[0].splitlines()[0])


def allreduce(tensor: Tensor) -> None:
    """Replace ``tensor`` by its mean over ranks, in place."""
    hvd.allreduce_(tensor, op=hvd.Average, name=f"doctor.{tensor.numel()}")
