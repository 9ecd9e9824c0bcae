"""Ranks and nodes that fail: the job ends by itself, says which and why, and the same command goes on."""

import os
import signal
import time
from pathlib import Path

import pytest

from tests.slurm.conftest import Cluster

pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.timeout(600)]
LONG = "epochs=4000"


def rank(cluster: Cluster, job: str, node: str) -> int:
    """The process number of the job's rank on ``node``."""
    rows = cluster.run("pgrep", "-f", rf"hpcfast train .*--json imagenet-l2-{job}.json").split()
    for pid in map(int, rows):
        process = Path("/proc", str(pid))
        is_python = b"python" in (process / "cmdline").read_bytes().split(b"\0")[0]
        if is_python and f"SLURMD_NODENAME={node}\0".encode() in (process / "environ").read_bytes():
            return pid
    raise AssertionError(f"no rank on {node} among {rows}")


@pytest.mark.parametrize(
    ("number", "message"),
    [(signal.SIGKILL, "n2: task 1: Exited with exit code 137"), (signal.SIGSTOP, "has been silent for")],
)
def test_a_lost_rank_ends_the_job_and_is_named(cluster: Cluster, number: signal.Signals, message: str) -> None:
    name = f"lost-{number.name}"
    job = cluster.train(name, 2, LONG)
    cluster.until_trained(name)
    os.kill(rank(cluster, job, "n2"), number)
    started = time.monotonic()
    assert cluster.end(job).startswith("FAILED"), cluster.log(job)
    print(f"ended after {time.monotonic() - started:.1f} s")
    log = cluster.log(job)
    assert message in log, log
    assert "== the same sbatch command goes on from the last checkpoint" in log


def test_a_cancelled_job_stays_cancelled(cluster: Cluster) -> None:
    job = cluster.train("cancelled", 2, LONG)
    cluster.until_trained("cancelled")
    cluster.run("scancel", job)
    assert cluster.end(job).startswith("CANCELLED")
    assert cluster.state(job)["Restarts"] == "0"


def test_a_job_taken_away_with_sigterm_goes_on_until_its_restarts_are_used_up(cluster: Cluster) -> None:
    job = cluster.train("preempted", 2, LONG, HPCFAST_MAX_REQUEUES="1")
    cluster.until_trained("preempted")
    cluster.run("scancel", "--signal=TERM", f"{job}.0")  # what Slurm does to the steps of a job it preempts
    cluster.until(lambda: cluster.state(job)["Restarts"] == "1")
    cluster.until_trained("preempted")
    cluster.run("scancel", "--signal=TERM", f"{job}.0")
    assert cluster.end(job) == "FAILED 75:0"
    assert "1 of at most 1 restarts" in cluster.log(job)


def test_where_requeue_is_forbidden_a_job_submits_the_one_that_follows(cluster: Cluster) -> None:
    job = cluster.train("chained", 2, LONG, HPCFAST_AGAIN="chain")
    cluster.until_trained("chained")
    cluster.run("scancel", "--signal=USR2", job)
    assert cluster.end(job) == "COMPLETED 0:0"
    follower = cluster.log(job).split()[-1]
    cluster.until_trained("chained")
    assert cluster.state(follower)["NumNodes"] == "2"
    assert "start 2" in cluster.log(follower)
    cluster.run("scancel", follower)
    cluster.end(follower)
