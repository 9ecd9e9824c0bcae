"""Which rank a process is, before anything heavy is imported."""

import os
import subprocess
import sys
from dataclasses import replace
from itertools import chain

import pytest

from hpcfast.distributed import launcher

STEP = {
    "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "5", "SLURM_STEP_TASKS_PER_NODE": "2(x2),1",
    "SLURM_STEP_NODELIST": "n[1-3]", "SLURM_PROCID": "3", "SLURM_NODEID": "1", "SLURM_LOCALID": "1",
}  # fmt: skip
VARIABLES = [(name, number) for name, *numbers in launcher.LAUNCHERS for number in numbers]


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*chain(*launcher.LAUNCHERS), *STEP):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def step(monkeypatch: pytest.MonkeyPatch) -> launcher.Step:
    """This process is task 3 of the five that srun started on three nodes."""
    for name, value in STEP.items():
        monkeypatch.setenv(name, value)
    found = launcher.slurm_step()
    assert found
    return found


def test_alone_there_is_no_rank() -> None:
    assert launcher.rank() is None


WEEK = str(7 * 24 * 3600)


@pytest.mark.parametrize(("name", "number"), VARIABLES)
def test_each_launchers_variables_are_read(name: str, number: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "12")
    assert (launcher.rank(), launcher.size()) == (12, None)
    monkeypatch.setenv(number, "16")
    assert (launcher.rank(), launcher.size()) == (12, 16)


def test_horovods_own_rank_comes_before_that_of_the_batch_job(monkeypatch: pytest.MonkeyPatch) -> None:
    for value, (name, *numbers) in enumerate(launcher.LAUNCHERS):
        monkeypatch.setenv(name, str(value))
        for number in numbers:
            monkeypatch.setenv(number, str(value + 2))
    assert launcher.LAUNCHERS[0][0] == "HOROVOD_RANK"
    assert (launcher.rank(), launcher.size()) == (0, 2)


@pytest.mark.parametrize(("name", "number"), VARIABLES)
def test_a_job_of_one_process_has_no_ranks_unless_it_may_grow(
    name: str, number: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "0")
    monkeypatch.setenv(number, "1")
    assert launcher.rank() == (0 if name == "HOROVOD_RANK" else None)
    assert launcher.size() == 1


def test_threads_wait_passively_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    launcher.prepare()
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    launcher.prepare()
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"


def test_the_command_lines_import_needs_no_torch() -> None:
    """The environment must be set before torch is imported, and ``--help`` must be fast."""
    code = (
        "import sys, hpcfast.cli; print([m for m in ('torch', 'horovod', 'nvidia.dali', 'timm') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_task_of_srun_is_a_rank_and_horovod_learns_which(step: launcher.Step) -> None:
    assert (launcher.rank(), launcher.size()) == (3, 5)
    names = ("RANK", "SIZE", "LOCAL_RANK", "LOCAL_SIZE", "CROSS_RANK", "CROSS_SIZE")
    assert [step.horovod()[f"HOROVOD_{name}"] for name in names] == ["3", "5", "1", "2", "1", "2"]


@pytest.mark.parametrize("name", [row[0] for row in launcher.LAUNCHERS])
def test_a_rank_of_mpi_or_horovodrun_comes_before_the_steps(
    name: str, step: launcher.Step, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert step.rank == 3
    assert not launcher.is_complete(mpi=True), "without MPI's variables MPI would not find the others"
    monkeypatch.setenv(name, "1")
    assert launcher.rank() == 1
    assert launcher.is_complete(mpi=True)
    assert launcher.is_complete(mpi=False) == (name == "HOROVOD_RANK")


@pytest.mark.parametrize("changes", [{"SLURM_STEP_ID": None}, {"SLURM_STEP_NUM_TASKS": "1"}])
@pytest.mark.usefixtures("step")
def test_neither_a_batch_script_nor_an_interactive_shell_is_a_rank(
    changes: dict[str, str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in changes.items():
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name)
    assert launcher.slurm_step() is None
    assert launcher.rank() is None
    assert launcher.size() == 1


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("n1", "n1"),
        ("n[1-4]", "n1"),
        ("gpu[001-004,007],login", "gpu001"),
        ("a,b[1-2]", "a"),
        ("rack[1-2]node[03,5]-x,z", "rack1node03-x"),
    ],
)
def test_rank_0_is_on_the_first_node_of_the_list(nodes: str, first: str, step: launcher.Step) -> None:
    assert replace(step, nodes=nodes).first_node == first


FAULTS = """
import resource
from hpcfast.distributed import launcher
if {keep}:
    launcher.prepare()
def faults(rounds):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        buffers = [b"x" * size for size in [{size}] * 8]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults(2)
print(faults(10))
"""


@pytest.mark.parametrize("size", [3 << 20, 50 << 20])
def test_memory_that_is_freed_is_kept_for_the_next_step(size: int) -> None:
    """Counted in pages that the kernel must hand out, of which a step has hundreds of thousands."""
    kept, plain = (
        int(subprocess.check_output([sys.executable, "-c", FAULTS.format(keep=keep, size=size)], text=True))
        for keep in (True, False)
    )
    assert kept < 100 < size // 4096 < plain


@pytest.mark.parametrize(("stall", "gloo"), [(None, "360"), ("6", "66"), ("0", WEEK), ("soon", WEEK), ("inf", WEEK)])
def test_gloo_waits_for_longer_than_the_watchdog(
    stall: str | None, gloo: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HOROVOD_GLOO_TIMEOUT_SECONDS", raising=False)
    monkeypatch.delenv(launcher.STALL, raising=False)
    if stall is not None:
        monkeypatch.setenv(launcher.STALL, stall)
    launcher.prepare()
    assert os.environ.get("HOROVOD_GLOO_TIMEOUT_SECONDS") == gloo
