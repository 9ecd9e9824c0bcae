"""A scaling study on a real Slurm, with one sbatch."""

import re

import pytest

from tests.slurm.conftest import Cluster

pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.timeout(600)]
STUDY = """
title: a try
strong: [1, 2]
seeds: 1
data: [{name: shapes, target: 0.9, global_batch: 4, methods: [{name: fast, config: tiny.yaml}]}]
set: [epochs=1, evaluation.every=1, "schedule={name: cosine}"]
"""


def test_one_sbatch_runs_a_study_and_reports(cluster: Cluster) -> None:
    (cluster.path / "try.yaml").write_text(STUDY)
    first = cluster.submit("scaling_study.sh", 1, "try.yaml")
    assert cluster.end(first) == "COMPLETED 0:0", cluster.log(first)
    arrays = re.findall(r"arrays (\d+), (\d+), then job (\d+)", cluster.log(first))
    last = arrays[0][-1]
    assert cluster.end(last) == "COMPLETED 0:0", cluster.log(last)
    home = cluster.path / "studies" / "try"
    logs = [path.read_text() for path in sorted((home / "logs").glob("shapes-*.log"))]
    assert [(home / "runs" / f"shapes-fast-strong-{n}-seed0" / "summary.json").is_file() for n in (1, 2)] == [
        True
    ] * 2, logs
    assert all(re.search(r"^== end 0 \d+$", log, re.MULTILINE) for log in logs)
    assert (home / "report.html").is_file()
    assert "2 not converged" in cluster.log(last)
    again = cluster.run("hpcfast", "scaling", "run", "try.yaml")
    assert "submitted" not in again, "what is done is not submitted again"
