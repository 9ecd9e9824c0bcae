"""What the launchers of batch systems tell their processes, as written down by others; none was run by us."""

from collections.abc import Callable

import pytest

from hpcfast.distributed import comm, launcher
from hpcfast.distributed.comm import World
from hpcfast.errors import UserError
from tests.unit.distributed.test_launcher import STEP

Environment = dict[str, str]
# `env` in a batch script of TORQUE 6.0.2; OpenPBS sets the same but for PBS_VNODENUM, PBS_NP and PBS_NUM_*.
PBS: Environment = {
    "PBS_VERSION": "TORQUE-6.0.2", "PBS_JOBNAME": "aaa", "PBS_ENVIRONMENT": "PBS_BATCH", "PBS_O_WORKDIR": "/home/user1",
    "PBS_TASKNUM": "1", "PBS_MOMPORT": "15003", "PBS_JOBCOOKIE": "24CA13DFB269BB24B9E687EE94037901", "PBS_NODENUM": "0",
    "PBS_NUM_NODES": "1", "PBS_JOBID": "1399.login01", "PBS_VNODENUM": "0", "PBS_QUEUE": "normal", "PBS_NP": "1",
    "PBS_NUM_PPN": "1", "PBS_NODEFILE": "/var/spool/torque/aux/1399.login01",
}  # fmt: skip
# OpenPBS's task manager writes the number of a task in hexadecimal, with the node's in its first bits.
PBSDSH = PBS | {"PBS_TASKNUM": "40000001", "PBS_NODENUM": "1"}
PBSDSH_FIRST = PBS | {"PBS_TASKNUM": "00000002"}
LSF: Environment = {
    "LSB_JOBID": "1234", "LSB_JOBNAME": "big", "LSB_QUEUE": "batch", "LSB_DJOB_NUMPROC": "85",
    "LSB_MCPU_HOSTS": "batch3 1 h41n04 42 h41n05 42", "LS_SUBCWD": "/gpfs/me",
}  # fmt: skip
PMIX: Environment = {
    "PMIX_NAMESPACE": "1", "PMIX_RANK": "7", "PMIX_SECURITY_MODE": "native", "PMIX_GDS_MODULE": "ds21,ds12,hash",
    "PMIX_SERVER_URI2": "pmix-server.10038;tcp4://127.0.0.1:45892",
}  # fmt: skip
JSRUN = LSF | PMIX | {
    "JSM_NAMESPACE_ID": "1", "JSM_NAMESPACE_RANK": "7", "JSM_NAMESPACE_SIZE": "12", "JSM_NAMESPACE_LOCAL_RANK": "1",
    "JSM_NAMESPACE_LOCAL_SIZE": "6",
}  # fmt: skip
FLUX_SCRIPT: Environment = {"FLUX_URI": "local:///tmp/flux-NmLkGt/local-0", "FLUX_ENCLOSING_ID": "fEzWgQ8Bm"}
FLUX_ALONE = FLUX_SCRIPT | {
    "FLUX_JOB_ID": "f23r45t", "FLUX_JOB_SIZE": "4", "FLUX_JOB_NNODES": "2", "FLUX_TASK_RANK": "3",
    "FLUX_TASK_LOCAL_ID": "1", "FLUX_JOB_TMPDIR": "/tmp/flux-NmLkGt/jobtmp-0-f23r45t",
    "FLUX_KVS_NAMESPACE": "job-f23r45t",
}  # fmt: skip
FLUX = FLUX_ALONE | {
    "PMI_FD": "14",
    "PMI_RANK": "3",
    "PMI_SIZE": "4",
    "FLUX_PMI_LIBRARY_PATH": "/usr/lib64/flux/libpmi.so",
}
RANKS: dict[str, tuple[Environment, int, int]] = {
    "PBS, Open MPI's mpirun, on the second node": (
        PBSDSH | {
            "OMPI_COMM_WORLD_RANK": "4", "OMPI_COMM_WORLD_SIZE": "8", "OMPI_COMM_WORLD_LOCAL_RANK": "0",
            "OMPI_COMM_WORLD_LOCAL_SIZE": "4", "OMPI_UNIVERSE_SIZE": "8", "PMIX_RANK": "4",
        },
        4, 8,
    ),
    "PBS, mpiexec of Intel MPI": (
        PBS | {"PMI_RANK": "4", "PMI_SIZE": "5", "PMI_FD": "6", "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "2"},
        4, 5,
    ),
    "PBS, mpiexec of MPICH through the task manager": (
        PBSDSH | {"PMI_RANK": "1", "PMI_SIZE": "2", "PMI_FD": "6", "MPI_LOCALRANKID": "0", "MPI_LOCALNRANKS": "1"},
        1, 2,
    ),
    "PBS, mpiexec of HPE Cray": (
        PBS | {
            "PALS_RANKID": "5", "PALS_NODEID": "1", "PALS_LOCAL_RANKID": "1", "PALS_LOCAL_SIZE": "4", "PMI_RANK": "5",
            "PMI_SIZE": "8", "PMI_LOCAL_RANK": "1", "PMI_LOCAL_SIZE": "4",
        },
        5, 8,
    ),
    "PBS, horovodrun through pbs_tmrsh": (PBSDSH | {"HOROVOD_RANK": "2", "HOROVOD_SIZE": "4"}, 2, 4),
    "LSF, jsrun with Spectrum MPI": (
        JSRUN | {
            "OMPI_COMM_WORLD_RANK": "7", "OMPI_COMM_WORLD_SIZE": "12", "OMPI_COMM_WORLD_LOCAL_RANK": "1",
            "OMPI_COMM_WORLD_LOCAL_SIZE": "6",
        },
        7, 12,
    ),
    "LSF, jsrun --smpiargs=none": (JSRUN, 7, 12),
    "flux run": (FLUX, 3, 4),
    "flux run -o pmi=none": (FLUX_ALONE, 3, 4),
    "flux run -o pmi=pmix": (FLUX_ALONE | PMIX | {"PMIX_RANK": "3"}, 3, 4),
    "srun --mpi=pmix": (STEP | PMIX | {"PMIX_RANK": "3"}, 3, 5),
    "Slurm, mpirun of Intel MPI, whose daemons srun has started": (
        STEP | PMIX | {"PMIX_RANK": "0", "PMI_RANK": "1", "PMI_SIZE": "2"}, 1, 2,
    ),
}  # fmt: skip
ALONE: dict[str, Environment] = {
    "a batch script of PBS": PBS,
    "a batch script of LSF": LSF,
    "a batch script of Flux": FLUX_SCRIPT,
    "the shell of flux run": FLUX | {"FLUX_TASK_RANK": "0", "FLUX_JOB_SIZE": "1", "PMI_RANK": "0", "PMI_SIZE": "1"},
    "the shell of jsrun": JSRUN | {"PMIX_RANK": "0", "JSM_NAMESPACE_RANK": "0", "JSM_NAMESPACE_SIZE": "1"},
    "the shell of srun --pty, with --mpi=pmix": (
        STEP | PMIX | {"PMIX_RANK": "0", "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"}
    ),
}


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[[Environment], None]:
    """Call it with an environment to have that one, and nothing of the launchers else."""

    def replace(environment: Environment) -> None:
        monkeypatch.setattr("os.environ", environment)

    return replace


@pytest.mark.parametrize("name", RANKS)
def test_a_rank_knows_its_number_and_mpi_finds_the_others(name: str, use: Callable[[Environment], None]) -> None:
    environment, rank, size = RANKS[name]
    use(environment)
    assert (launcher.rank(), launcher.size()) == (rank, size)
    assert launcher.is_complete(mpi=True)
    assert launcher.is_complete(mpi=False) == ("HOROVOD_RANK" in environment)
    assert not launcher.is_pbs_task()


@pytest.mark.parametrize("name", ALONE)
def test_a_process_alone_is_no_rank(name: str, use: Callable[[Environment], None]) -> None:
    use(ALONE[name])
    assert (launcher.rank(), launcher.size()) == (None, 1)
    assert not launcher.is_complete(mpi=True)
    assert not launcher.is_pbs_task()


@pytest.mark.parametrize("environment", [FLUX, FLUX_ALONE, JSRUN], ids=["flux run", "without PMI", "jsrun"])
def test_ranks_that_horovod_does_not_find_end_in_a_message(
    environment: Environment, use: Callable[[Environment], None], world: World
) -> None:
    use(dict(environment))
    with pytest.raises(UserError, match=r"this is rank [37] of \d+, but Horovod finds 1: .*mpirun.*batch-systems.md"):
        comm.init()


@pytest.mark.parametrize("environment", [PBSDSH, PBSDSH_FIRST], ids=["another node", "the first node"])
def test_pbsdsh_gives_ranks_no_way_to_meet(environment: Environment, use: Callable[[Environment], None]) -> None:
    use(environment)
    assert launcher.is_pbs_task()
    with pytest.raises(UserError, match="pbsdsh .* cannot find one another: .*mpirun"):
        comm.init()
