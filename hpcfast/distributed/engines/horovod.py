"""Horovod: over Gloo, MPI or NCCL, as it was compiled."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

# MPI may bring UCX along, whose handler of crashes waits for the heap's lock: in a damaged heap it never gets it, and
# the job hangs instead of ending. It looks when it is loaded.
os.environ.setdefault("UCX_HANDLE_ERRORS", "none")

import horovod
import horovod.torch as hvd
import torch
from horovod.common.exceptions import HorovodInternalError
from torch import Tensor, nn

from hpcfast.distributed import launcher, rendezvous
from hpcfast.distributed.engines import Distributed, Engine
from hpcfast.distributed.settings import AllreduceSettings
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


def rest(handle: int | None) -> None:
    """Let others have the core until what ``handle`` stands for has been sent.

    Horovod would ask again and again without a pause, and so keep its own threads, and other ranks, from working.
    Pauses grow with the wait, to which they may add a twentieth.
    """
    begun = time.perf_counter()
    while handle is not None and not hvd.poll(handle):
        time.sleep(max(PAUSE, (time.perf_counter() - begun) / 20))


@dataclass(frozen=True)
class _Handle:
    number: int

    def result(self) -> Any:
        rest(self.number)
        return hvd.synchronize(self.number)


class Horovod(Engine):
    """The ranks of horovodrun, of an MPI's launcher, or of srun."""

    name, lost = "horovod", HorovodInternalError

    def __init__(self) -> None:
        """Join the job.

        Raises:
            UserError: the ranks do not find one another (a ConnectionError where only some know).
        """
        slow_down()
        if launcher.rank() is None or launcher.mpi_aborts():
            # Alone, Horovod would start MPI, which not every machine can do without mpirun.
            os.environ.update(HOROVOD_CONTROLLER="gloo", HOROVOD_CPU_OPERATIONS="gloo")
        elif (step := launcher.slurm_step()) and not launcher.is_complete(hvd.mpi_built()):
            rendezvous.meet(step)
        rendezvous.listen_there()
        hvd.init()
        if launcher.size() not in (None, hvd.size()):
            raise UserError(
                f"this is rank {launcher.rank()} of {launcher.size()}, but Horovod finds {hvd.size()}: its MPI does "
                "not know this launcher; use that MPI's own mpirun or mpiexec, or with Slurm srun --mpi=none (Gloo, no "
                "MPI) or srun --mpi=pmix; docs/batch-systems.md says what jsrun and flux run need"
            )
        self.look()
        self.address = os.environ.get(rendezvous.ADDRESS, "")

    def look(self) -> None:
        """Learn who this rank is; in an elastic job that changes."""
        self.rank, self.size = hvd.rank(), hvd.size()
        self.local_rank, self.local_size = hvd.local_rank(), hvd.local_size()
        self.carrier = "MPI" if hvd.mpi_enabled() else "Gloo"

    def sum(self, tensor: Tensor, name: str) -> _Handle:
        return _Handle(hvd.allreduce_async(tensor, op=hvd.Sum, name=name))

    def average(self, tensors: Sequence[Tensor], name: str) -> _Handle:
        return _Handle(hvd.grouped_allreduce_async_(list(tensors), op=hvd.Average, name=name))

    def broadcast(self, tensors: Sequence[Tensor], name: str) -> None:
        hvd.broadcast_parameters({f"{name}.{i}": Wire.compress(each)[0] for i, each in enumerate(tensors)}, root_rank=0)

    def gather(self, data: Tensor, name: str) -> list[Tensor]:
        sizes = _Handle(hvd.allgather_async(torch.tensor([len(data)]), name=f"{name}.sizes")).result().tolist()
        return list(_Handle(hvd.allgather_async(data, name=name)).result().split(sizes))

    def distribute(
        self, optimizer: torch.optim.Optimizer, model: nn.Module, settings: AllreduceSettings, passes: int, summed: bool
    ) -> Distributed:
        adasum = settings.op == "adasum"
        if adasum and self.size > 1 and self.carrier != "MPI":
            raise UserError("allreduce.op: adasum needs MPI; start the ranks with mpirun or horovodrun --mpi")
        wrapped: Any = hvd.DistributedOptimizer(
            optimizer,
            named_parameters=model.named_parameters(),
            compression=_wire(settings.compression),
            backward_passes_per_step=passes,
            op=hvd.Adasum if adasum else hvd.Sum if summed else hvd.Average,
        )
        if adasum:  # it sends in its step, and waits there
            return Distributed(wrapped, lambda: None)

        def wait() -> None:
            for handle, _ in wrapped._handles.values():
                rest(handle)
            wrapped.synchronize()

        return Distributed(wrapped, wait, wrapped.skip_synchronize)

    def mean(self, tensors: dict[str, Tensor], compression: str) -> dict[str, Tensor]:
        wire = _wire(compression)
        packed = {name: wire.compress(tensor) for name, tensor in tensors.items()}
        handles = {
            name: _Handle(hvd.allreduce_async(sent, op=hvd.Average, name=name)) for name, (sent, _) in packed.items()
        }
        return {name: wire.decompress(handles[name].result(), how) for name, (_, how) in packed.items()}

    def start_timeline(self, file: str) -> None:
        """Only where HOROVOD_TIMELINE was DYNAMIC when Horovod was started."""
        hvd.start_timeline(file)

    def stop_timeline(self) -> None:
        hvd.stop_timeline()

    def abort(self, code: int) -> None:
        if hvd.is_initialized() and hvd.mpi_enabled() and hvd.size() > 1:
            from mpi4py import MPI  # importing it starts MPI, which a Gloo job must not do

            MPI.COMM_WORLD.Abort(code)

    @property
    def about(self) -> str:
        built = {"Gloo": hvd.gloo_built(), "MPI": hvd.mpi_built(), "NCCL": hvd.nccl_built()}
        return f"Horovod {horovod.__version__}, {' '.join(name for name, there in built.items() if there)}"

    @property
    def reaches_gpus(self) -> bool:
        return bool(hvd.nccl_built())

    @property
    def mpi(self) -> str | None:
        if self.carrier != "MPI":
            return None
        from mpi4py import MPI

        return str(MPI.Get_library_version().split(",")[0].splitlines()[0])


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
