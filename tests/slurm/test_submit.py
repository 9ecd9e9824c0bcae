"""hpcfast submit and hpcfast doctor on a real Slurm."""

import json
import re
import socket

import pytest

from tests.slurm.conftest import Cluster

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]


def test_the_first_job_of_a_chain_trains_and_the_next_waits_for_it(cluster: Cluster) -> None:
    flags = ["--nodes", "2", "--gpus-per-node", "0", "--sbatch", "ntasks-per-node=1", "--sbatch", "cpus-per-task=1"]
    said = cluster.run("hpcfast", "submit", "tiny.yaml", "name=sent", "guard={every: 0}", *flags, "--chain", "2")
    first, second = re.findall(r"\d+", said.splitlines()[0])
    assert cluster.state(second)["Dependency"].startswith(f"afterany:{first}")
    assert cluster.end(first) == "COMPLETED 0:0", cluster.log(first)
    log = cluster.path / re.findall(r"tail -F (\S+)", said)[0]
    assert "0: runs/sent: clean" in log.read_text()
    assert json.loads((cluster.path / "runs" / "sent" / "summary.json").read_text())["world_size"] == 2
    cluster.run("scancel", second)


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
