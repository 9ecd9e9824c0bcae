"""What Horovod and MPI say of themselves, for ``hpcfast doctor``."""

import json
from pathlib import Path
from typing import NamedTuple

import horovod
import horovod.torch as hvd
from torch import Tensor


class Mpi(NamedTuple):
    """MPI as mpi4py sees it."""

    library: str
    size: int


def version() -> str:
    """Horovod's."""
    return str(horovod.__version__)


def started() -> bool:
    """Whether Horovod runs."""
    return bool(hvd.is_initialized())


def features() -> tuple[str, ...]:
    """What Horovod was compiled with."""
    built = {"Gloo": hvd.gloo_built(), "MPI": hvd.mpi_built(), "NCCL": hvd.nccl_built()}
    return tuple(name for name, there in built.items() if there)


def built_for() -> str:
    """The torch that Horovod was compiled against."""
    return str(json.loads(Path(horovod.__file__).with_name("metadata.json").read_text())["pytorch"])


def mpi() -> Mpi | None:
    """The MPI that carries this job, None where Gloo does."""
    if not hvd.mpi_enabled():
        return None
    from mpi4py import MPI  # importing it starts MPI, which a Gloo job must not do

    return Mpi(MPI.Get_library_version().split(",")[0].splitlines()[0], MPI.COMM_WORLD.size)


def allreduce(tensor: Tensor) -> None:
    """Replace ``tensor`` by its mean over ranks, in place."""
    hvd.allreduce_(tensor, op=hvd.Average, name=f"doctor.{tensor.numel()}")
