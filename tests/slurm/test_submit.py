"""hpcfast submit and hpcfast doctor on a real Slurm."""

import json
import socket

import pytest

from tests.slurm.conftest import Cluster

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]


FAULTS = """
import os
if os.environ.get("SLURMD_NODENAME") == "n2":
    import time, torch
    torch.__version__, true = "2.0.1", time.time
    time.time = lambda: true() + 90
"""


def test_the_doctor_examines_a_job_and_names_the_node_whose_torch_and_clock_differ(cluster: Cluster) -> None:
    (cluster.path / "faults").mkdir()
    (cluster.path / "faults" / "sitecustomize.py").write_text(FAULTS)
    command = "srun --mpi=none hpcfast doctor --quick --json doctor.json"
    size = ("--nodes=3", "--nodelist=n2", "--ntasks-per-node=1", "--output=doctor.log")
    job = cluster.run("sbatch", "--parsable", *size, f"--wrap={command}", PYTHONPATH=f"{cluster.path}/faults").strip()
    assert cluster.end(job) == "FAILED 2:0", cluster.log(job)
    found = {row["name"]: row for row in json.loads((cluster.path / "doctor.json").read_text())["findings"]}
    assert found["torch"]["verdict"] == "bad"
    assert found["torch"]["value"].endswith(f"but 2.0.1 on {'n2' if cluster.networks else socket.gethostname()}")
    assert "error: bad: torch" in cluster.log(job)
    if cluster.networks:  # else all are one host, which has one clock
        assert found["clocks"]["verdict"] == "warn"
        assert found["clocks"]["value"].startswith("n2 is 90.0 s ahead of ")
    assert found["ranks"]["value"] == "3, over Gloo"
    assert found["run directory"]["verdict"] == "ok", "the other checks went on"
    assert found["allreduce"]["numbers"]["seconds"] > 0
