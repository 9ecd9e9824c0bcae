"""The process, before torch and Horovod are imported: who started it, how its threads wait, and keep their memory.

An error found at import time must be printed by rank 0 only, so the rank is read from the launcher's variables.
"""

import ctypes
import os
import re
from dataclasses import dataclass

# Horovod's own comes first: ranks started by horovodrun inside a batch job also see that job's variables. PMIx and
# PMI are MPI's ways to learn them, PMI that of MPICH, of Intel MPI and of srun --mpi=pmi2.
RANK_VARIABLES = ("HOROVOD_RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK")
SIZE_VARIABLES = ("HOROVOD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS")

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
    """Return this process's rank, or None when no launcher started it."""
    given = next((int(os.environ[name]) for name in RANK_VARIABLES if name in os.environ), None)
    if given is None and (step := slurm_step()):
        return step.rank
    return given


def size() -> int | None:
    """How many ranks the launcher says there are, or None where it does not tell."""
    if rank() is None:
        return 1
    return next((int(os.environ[name]) for name in SIZE_VARIABLES if name in os.environ), None)


def is_complete(mpi: bool) -> bool:
    """Whether Horovod finds the other ranks by itself: horovodrun told it, or MPI will, if it has ``mpi``."""
    return "HOROVOD_RANK" in os.environ or (mpi and any(name in os.environ for name in RANK_VARIABLES))


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
    )


def prepare() -> None:
    """Set what must be set before torch is imported."""
    # torch's and DALI's threads share the cores. OpenMP's threads burn a core while they wait for one another;
    # where anything else runs there, that makes training several times slower (docs/troubleshooting.md).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Likewise Open MPI: Horovod's own thread waits in it all the time, on a core that training could use.
    os.environ.setdefault("OMPI_MCA_mpi_yield_when_idle", "1")
    # Gloo gives up on a silent rank after 30 s without saying which; our watchdog, which says it, comes first then.
    os.environ.setdefault("HOROVOD_GLOO_TIMEOUT_SECONDS", "60")
    _keep_memory()


def _keep_memory() -> None:
    """Have malloc keep what is freed, for the next step's activations.

    It would give much of that back to the kernel, which then clears every page of it anew, at every step.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # GNU's
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, -1)
