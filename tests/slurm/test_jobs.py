"""The batch scripts, from sbatch to the last weights, whatever comes between."""

import json
import re
import time
from pathlib import Path

import pytest

from tests.slurm.conftest import PHASES, ROOT, SMALL, Cluster, pages

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]
SCRIPTS = sorted(path.name for path in (ROOT / "slurm").glob("*.sh") if "#SBATCH" in path.read_text())


def test_the_main_script_trains_on_four_nodes_and_says_what_it_ran_with(cluster: Cluster, imagenet: Path) -> None:
    job = cluster.submit("train_imagenet_l2.sh", 4, "name=four", *SMALL, PHASES)
    assert cluster.end(job) == "COMPLETED 0:0", cluster.log(job)
    log = cluster.log(job)
    assert f"== job {job} (imagenet-l2), start 1" in log
    assert "== nodes n[1-4], tasks 1(x4), no GPUs a node" in log
    assert "== hpcfast train configs/imagenet_l2.yaml name=four" in log
    assert re.search(r"^0: runs/four: clean", log, re.MULTILINE)
    assert not re.search(r"^[123]: ", log, re.MULTILINE), "other ranks are silent unless they fail"
    assert f"== done; numbers in imagenet-l2-{job}.json" in log
    summary = json.loads((cluster.path / f"imagenet-l2-{job}.json").read_text())
    assert summary["world_size"] == 4
    assert summary == json.loads((cluster.path / "runs" / "four" / "summary.json").read_text())
    assert f"path: {imagenet.relative_to(cluster.path)}" in (cluster.path / "runs" / "four" / "config.yaml").read_text()


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_is_accepted_as_it_stands(cluster: Cluster, script: str) -> None:
    cluster.run("sbatch", "--test-only", f"slurm/{script}", "configs/digits_l2.yaml")


@pytest.mark.parametrize("line", pages())
def test_every_line_of_the_page_is_accepted_as_it_stands(cluster: Cluster, line: str) -> None:
    cluster.run("bash", "-c", line.replace("sbatch ", "sbatch --test-only "))


def test_a_job_that_must_stop_is_requeued_and_ends_as_if_it_had_not(cluster: Cluster) -> None:
    assert cluster.end(cluster.train("whole", 2, "epochs=20")) == "COMPLETED 0:0"
    job = cluster.train("stopped", 2, "epochs=20")
    cluster.until_trained("stopped")
    cluster.run("scancel", "--signal=USR2", job)  # what --signal=USR2@120 does before the time limit
    cluster.until(lambda: "run_interrupted" in (cluster.path / "runs/stopped/events.jsonl").read_text())
    cluster.until(lambda: cluster.state(job)["Restarts"] == "1")
    assert cluster.end(job) == "COMPLETED 0:0", cluster.log(job)
    assert "requeue, restart 1 of at most 3" in cluster.log(job)
    assert "0: going on with runs/stopped after epoch" in cluster.log(job)
    assert cluster.weights("stopped") == cluster.weights("whole")


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_job_of_minutes_is_done_in_starts_of_one_minute(cluster: Cluster) -> None:
    assert cluster.end(cluster.train("long", 2, "epochs=400"), 1800) == "COMPLETED 0:0"
    flags = ("--time=1", "--signal=USR2@15")  # Slurm looks every 30 s, so that starts end after 30 to 60
    job = cluster.train("minutes", 2, "epochs=400", flags=flags, HPCFAST_MAX_REQUEUES="60")
    began = time.monotonic()
    assert cluster.end(job, 1800) == "COMPLETED 0:0", cluster.log(job)
    starts = 1 + int(cluster.state(job)["Restarts"])
    print(f"{starts} starts, {time.monotonic() - began:.0f} s")
    assert starts > 1
    assert cluster.weights("minutes") == cluster.weights("long")


def test_a_wrong_setting_is_told_once_and_nothing_starts_again(cluster: Cluster) -> None:
    job = cluster.train("wrong", 2, "threat.eps=-1")
    assert cluster.end(job) == "FAILED 2:0"
    log = cluster.log(job)
    assert log.count("threat.eps: input should be greater than 0") == 1
    assert "== the message above says what to change" in log
    assert cluster.state(job)["Restarts"] == "0"


def test_without_the_checkout_a_job_says_where_to_submit_it(cluster: Cluster) -> None:
    job = cluster.train("lost", 1, HPCFAST_HOME=str(cluster.path / "configs"))
    assert cluster.end(job) == "FAILED 2:0"
    assert "error: run sbatch in hpcfast's folder" in cluster.log(job)
