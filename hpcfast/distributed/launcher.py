"""The process, before torch and Horovod are imported: who started it, how its threads wait, and keep their memory.

An error found at import time must be printed by rank 0 only, so the rank is read from the launcher's variables.
"""

import ctypes
import os
import re
import sys
from contextlib import suppress
from dataclasses import dataclass

# One row a launcher: its variable for this process's rank, then that for how many there are, or those it may be.
LAUNCHERS = (
    # horovodrun comes first: ranks that it has started inside a batch job also see that job's variables
    ("HOROVOD_RANK", "HOROVOD_SIZE"),
    # Open MPI's mpirun, and jsrun with Spectrum MPI
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    # mpiexec of MPICH, Intel MPI and HPE Cray, srun --mpi=pmi2, and flux run
    ("PMI_RANK", "PMI_SIZE"),
    # LSF's jsrun, with any MPI or none
    ("JSM_NAMESPACE_RANK", "JSM_NAMESPACE_SIZE"),
    # flux run, with any MPI or none
    ("FLUX_TASK_RANK", "FLUX_JOB_SIZE"),
    # PMIx, by srun, jsrun or flux run; last: where srun starts another MPI's daemons, ranks also see their daemon's
    ("PMIX_RANK", "JSM_NAMESPACE_SIZE", "FLUX_JOB_SIZE", "SLURM_STEP_NUM_TASKS"),
)

TORCHRUN = "TORCHELASTIC_RUN_ID"
STALL = "HPCFAST_STALL_SECONDS"
LIMIT = 300.0
"""Seconds of silence after which a rank is lost, unless that variable says otherwise; 0: never."""
LATER, WEEK = 60, 7 * 24 * 3600
"""Seconds from the watchdog's verdict to Gloo's, and Gloo's where the watchdog is off."""

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of malloc.h


@dataclass(frozen=True)
class Step:
    """This process among those that srun started together: a job step of Slurm."""

    rank: int
    node: int
    """Of this process; rank 0 is on node 0."""
    local_rank: int
    tasks: tuple[int, ...]
    """Processes on each node."""
    nodes: str
    """The nodes' names as Slurm writes them, such as ``gpu[001-004,007],login``."""
    name: str = ""
    """What no other step has: a job that starts again counts its restarts."""

    @property
    def size(self) -> int:
        return sum(self.tasks)

    @property
    def first_node(self) -> str:
        """The name of node 0."""
        return re.sub(r"\[([^],-]+)[^]]*\]", r"\1", re.split(r",(?![^[]*\])", self.nodes)[0])

    def horovod(self) -> dict[str, str]:
        """The variables by which Horovod knows this rank (``cross``: those of its local rank, over the nodes)."""
        peers = [node for node, count in enumerate(self.tasks) if count > self.local_rank]
        values = {
            "RANK": self.rank,
            "SIZE": self.size,
            "LOCAL_RANK": self.local_rank,
            "LOCAL_SIZE": self.tasks[self.node],
            "CROSS_RANK": peers.index(self.node),
            "CROSS_SIZE": len(peers),
        }
        return {f"HOROVOD_{name}": str(value) for name, value in values.items()}


def rank() -> int | None:
    """Return this process's rank, or None when no launcher started it among others."""
    if told := _told():
        return told[0]
    step = slurm_step()
    return step.rank if step else None


def size() -> int | None:
    """How many ranks the launcher says there are, or None where it does not tell."""
    if told := _told():
        return told[1]
    step = slurm_step()
    return step.size if step else 1


def is_complete(mpi: bool) -> bool:
    """Whether Horovod finds the other ranks by itself: horovodrun told it, or MPI will, if it has ``mpi``."""
    return "HOROVOD_RANK" in os.environ or (mpi and _told() is not None)


def mpi_aborts() -> bool:
    """Whether MPI would end the process without our message: Open MPI from PyPI, whose prefix is .venv, under Flux."""
    flux = "FLUX_TASK_RANK" in os.environ and "PMIX_RANK" not in os.environ
    return flux and os.environ.get("OPAL_PREFIX") == sys.prefix


def is_pbs_task() -> bool:
    """Whether it was PBS's pbsdsh: its processes know neither their rank nor how many they are.

    A batch script is task 1 of its job, and so is all that it starts itself.
    """
    return os.environ.get("PBS_TASKNUM", "1") != "1" and not any(row[0] in os.environ for row in LAUNCHERS)


def _told() -> tuple[int, int | None] | None:
    """This process's rank and their number, as the launcher says; None if there is none.

    A job of one process has no ranks: it is often a shell, from which people start what they like. But one that
    horovodrun has started may be the first of an elastic job.
    """
    if TORCHRUN in os.environ:
        return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    for name, *numbers in LAUNCHERS:
        if name in os.environ:
            number = next((int(os.environ[each]) for each in numbers if each in os.environ), None)
            if number != 1 or name == "HOROVOD_RANK":
                return int(os.environ[name]), number
    return None


def slurm_step() -> Step | None:
    """Read what srun says; None outside a step of several tasks.

    In a batch script there is a SLURM_PROCID too, but no step; the shells of ``salloc`` and ``srun --pty`` are
    steps of one task, from which people start what they like.
    """
    env = os.environ
    if "SLURM_STEP_ID" not in env or int(env.get("SLURM_STEP_NUM_TASKS", "1")) < 2:
        return None
    groups = re.findall(r"(\d+)(?:\(x(\d+)\))?", env["SLURM_STEP_TASKS_PER_NODE"])
    return Step(
        rank=int(env["SLURM_PROCID"]),
        node=int(env["SLURM_NODEID"]),
        local_rank=int(env["SLURM_LOCALID"]),
        tasks=tuple(int(count) for count, times in groups for _ in range(int(times or 1))),
        nodes=env["SLURM_STEP_NODELIST"],
        name=_values("SLURM_CLUSTER_NAME", "SLURM_JOB_UID", "SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT"),
    )


def torchrun_step() -> Step | None:
    """Read what torchrun says; None where it has not started this process."""
    env = os.environ
    if TORCHRUN not in env:
        return None
    local_size = int(env["LOCAL_WORLD_SIZE"])
    return Step(
        rank=int(env["RANK"]),
        node=int(env["GROUP_RANK"]),
        local_rank=int(env["LOCAL_RANK"]),
        tasks=(local_size,) * (int(env["WORLD_SIZE"]) // local_size),
        nodes=env["MASTER_ADDR"],
        name=_values(TORCHRUN, "MASTER_PORT", "TORCHELASTIC_RESTART_COUNT"),
    )


def _values(*variables: str) -> str:
    return "-".join(os.environ.get(each, "0") for each in variables)


def prepare() -> None:
    """Set what must be set before torch is imported."""
    # torch's and DALI's threads share the cores. OpenMP's threads burn a core while they wait for one another;
    # where anything else runs there, that makes training several times slower (docs/troubleshooting.md).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Likewise Open MPI: Horovod's own thread waits in it all the time, on a core that training could use.
    os.environ.setdefault("OMPI_MCA_mpi_yield_when_idle", "1")
    # Gloo gives up on a silent rank after 30 s without saying which; our watchdog, which says it, is to come first.
    os.environ.setdefault("HOROVOD_GLOO_TIMEOUT_SECONDS", str(patience()))
    _keep_memory()


def patience() -> int:
    """Seconds until Gloo gives up on a silent rank."""
    with suppress(ValueError, OverflowError):  # no number: the watchdog says so
        stall = float(os.environ.get(STALL, LIMIT))
        return int(stall) + LATER if stall else WEEK
    return WEEK


def _keep_memory() -> None:
    """Have malloc keep what is freed, for the next step's activations.

    It would give much of that back to the kernel, which then clears every page of it anew, at every step.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # GNU's
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, -1)
