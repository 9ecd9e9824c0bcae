"""hpcfast submit and hpcfast doctor on a real Slurm."""

import json
import re

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


def test_the_doctor_examines_the_nodes_of_a_job(cluster: Cluster) -> None:
    command = "srun --mpi=none hpcfast doctor --quick --json doctor.json"
    size = ("--nodes=2", "--ntasks-per-node=1", "--output=doctor.log")
    job = cluster.run("sbatch", "--parsable", *size, f"--wrap={command}").strip()
    assert cluster.end(job) == "COMPLETED 0:0", cluster.log(job)
    found = {row["name"]: row for row in json.loads((cluster.path / "doctor.json").read_text())["findings"]}
    assert found["ranks"]["value"] == "2, over Gloo"
    assert found["run directory"]["verdict"] == "ok"
    assert found["allreduce 1 MB"]["numbers"]["seconds"] > 0
