"""The process's environment, before torch and Horovod are imported: who started it, and how its threads wait.

An error found at import time must be printed by rank 0 only, so the rank is read from the launcher's variables.
"""

import os

# Horovod's own comes first: ranks started by horovodrun inside a batch job also see that job's variables.
RANK_VARIABLES = ("HOROVOD_RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK")


def rank() -> int | None:
    """Return this process's rank, or None when no launcher started it."""
    return next((int(os.environ[name]) for name in RANK_VARIABLES if name in os.environ), None)


def prepare() -> None:
    """Set what must be set before torch is imported."""
    # torch's and DALI's threads share the cores. OpenMP's threads burn a core while they wait for one another;
    # where anything else runs there, that makes training several times slower (docs/troubleshooting.md).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Likewise Open MPI: Horovod's own thread waits in it all the time, on a core that training could use.
    os.environ.setdefault("OMPI_MCA_mpi_yield_when_idle", "1")
    # Gloo gives up on a silent rank after 30 s without saying which; our watchdog, which says it, comes first then.
    os.environ.setdefault("HOROVOD_GLOO_TIMEOUT_SECONDS", "60")
