"""The doctor on two real ranks: all fine, and faults that can be made for real."""

import json
import os
from typing import Any

import pytest

from tests.distributed.conftest import Playground

pytestmark = pytest.mark.distributed

ONE_CORE = """
import os, sys
os.sched_setaffinity(0, range(os.cpu_count()))  # mpirun has bound each rank to a core of its own
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from hpcfast import cli
sys.argv[0] = "hpcfast"
cli.main()
"""


def findings(playground: Playground, name: str) -> dict[str, Any]:
    report = json.loads((playground.path / name).read_text())
    return {row["name"]: row for row in report["findings"]}


def test_two_ranks_over_gloo_are_examined(playground: Playground) -> None:
    job = playground.hpcfast(2, "doctor", "--quick", "--json", "fine.json")
    assert job.code == 0, job.output
    found = findings(playground, "fine.json")
    assert {row["verdict"] for row in found.values()} <= {"ok", "warn", "not here"}
    assert found["ranks"]["value"] == "2, over Gloo"
    assert found["allreduce"]["numbers"]["seconds"] > 0
    assert found["allreduce"]["value"].startswith("1 MB in ")
    assert job.output.count("run directory") == 1, "one table, not one a rank"


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="two ranks of a machine with one core must share it")
def test_a_shared_core_and_an_unwritable_folder_are_found(playground: Playground) -> None:
    arguments = ("doctor", "--quick", "--run-dir", "/proc/nowhere", "--json", "faulty.json")
    job = playground.start(2, "-c", ONE_CORE, *arguments, launcher="mpirun")
    assert job.code != 0
    assert "error: bad: cores, run directory" in job.output, job.output
    assert "Traceback" not in job.output
    found = findings(playground, "faulty.json")
    assert "shares core" in found["cores"]["value"]
    assert found["MPI"]["verdict"] == "ok", "the other checks went on"


def test_mpi_that_horovod_does_not_use_is_found(playground: Playground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOROVOD_CONTROLLER", "gloo")
    monkeypatch.setenv("HOROVOD_CPU_OPERATIONS", "gloo")
    job = playground.hpcfast(2, "doctor", "--quick", launcher="mpirun")
    assert job.code != 0
    assert "error: this is rank 0 of 2, but Horovod finds 1" in job.output, job.output
    assert "Traceback" not in job.output
