"""Which engine carries a job: what the user says, else what the launcher asks for."""

import sys
from pathlib import Path

import pytest

from hpcfast.distributed.engines import choice
from hpcfast.errors import UserError

TORCHRUN = {"TORCHELASTIC_RUN_ID": "1", "RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"}
HOROVODRUN = {"HOROVOD_RANK": "0", "HOROVOD_SIZE": "2"}
MPIRUN = {"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "2"}
SRUN = {
    "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_TASKS_PER_NODE": "2", "SLURM_PROCID": "0",
    "SLURM_NODEID": "0", "SLURM_LOCALID": "0", "SLURM_STEP_NODELIST": "n1",
}  # fmt: skip
WITHOUT = "Horovod is not installed"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*TORCHRUN, *HOROVODRUN, *MPIRUN, *SRUN, choice.VARIABLE):
        monkeypatch.delenv(name, raising=False)


def started_by(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], missing: str = "") -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(choice, "missing_horovod", lambda: missing)


@pytest.mark.parametrize(
    ("variables", "missing", "expected"),
    [
        ({}, "", "single"),
        ({}, WITHOUT, "single"),
        (HOROVODRUN, "", "horovod"),
        (MPIRUN, "", "horovod"),
        (SRUN, "", "horovod"),
        (SRUN, WITHOUT, "torch"),
        (TORCHRUN, "", "torch"),
        (SRUN | TORCHRUN, "", "torch"),
        (SRUN | HOROVODRUN, "", "horovod"),
        (MPIRUN | HOROVODRUN, "", "horovod"),
        (MPIRUN | TORCHRUN, "", "torch"),
        (HOROVODRUN | TORCHRUN, "", "horovod"),
    ],
)
def test_the_launcher_asks_for_an_engine(
    variables: dict[str, str], missing: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    started_by(monkeypatch, variables, missing)
    name, reason = choice.choose()
    assert name == expected
    assert reason


def test_the_user_decides_and_the_setting_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    started_by(monkeypatch, SRUN)
    monkeypatch.setenv(choice.VARIABLE, "torch")
    assert choice.choose() == ("torch", "HPCFAST_ENGINE says so")
    assert choice.choose("horovod") == ("horovod", "engine says so")


@pytest.mark.parametrize(
    ("variables", "setting", "missing", "said"),
    [
        ({}, "nccl", "", "engine: 'nccl' is no engine; choose from auto, horovod, torch, single"),
        (SRUN, "single", "", "engine: single is for one process, and a launcher has started 2 ranks"),
        (SRUN, "horovod", WITHOUT, "engine: horovod, but Horovod is not installed. Build it"),
        (HOROVODRUN, "auto", WITHOUT, "horovodrun has started this process, but Horovod is not installed"),
        (MPIRUN, "auto", WITHOUT, "an MPI's launcher has started this process, but Horovod is not installed"),
        (TORCHRUN | HOROVODRUN | {"HOROVOD_RANK": "1"}, "auto", "", "rank 1 by HOROVOD_RANK and rank 0 by torchrun's"),
    ],
)
def test_what_cannot_be_is_refused_with_the_cure(
    variables: dict[str, str], setting: str, missing: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    started_by(monkeypatch, variables, missing)
    with pytest.raises(UserError, match=said):
        choice.choose(setting)


def test_a_horovod_without_torch_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its installation succeeds where the build for torch has failed."""
    assert choice.missing_horovod() == ""
    (tmp_path / "horovod" / "torch").mkdir(parents=True)
    (tmp_path / "horovod" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "horovod", raising=False)
    assert f"{tmp_path}/horovod was built without torch" in choice.missing_horovod()
