"""Which rank a process is, before anything heavy is imported."""

import os
import subprocess
import sys

import pytest

from hpcfast import launcher


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in launcher.RANK_VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_alone_there_is_no_rank() -> None:
    assert launcher.rank() is None


@pytest.mark.parametrize("name", launcher.RANK_VARIABLES)
def test_each_launchers_variable_is_read(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "12")
    assert launcher.rank() == 12


def test_horovods_own_rank_comes_before_that_of_the_batch_job(monkeypatch: pytest.MonkeyPatch) -> None:
    for value, name in enumerate(launcher.RANK_VARIABLES):
        monkeypatch.setenv(name, str(value))
    assert launcher.RANK_VARIABLES[0] == "HOROVOD_RANK"
    assert launcher.rank() == 0


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
