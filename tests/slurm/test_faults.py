"""Ranks and nodes that fail: the job ends by itself, says which and why, and the same command goes on."""

import contextlib
import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from tests.slurm.conftest import Cluster

pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.timeout(600)]
LONG, ENDS = "epochs=4000", "epochs=60"


@pytest.fixture(scope="module")
def uninterrupted(cluster: Cluster) -> str:
    """The name of a run that nothing came between."""
    assert cluster.end(cluster.train("quiet", 2, ENDS)) == "COMPLETED 0:0"
    return "quiet"


def rank(cluster: Cluster, job: str, node: str) -> int:
    """The process number of the job's rank on ``node``."""
    rows = cluster.run("pgrep", "-f", rf"hpcfast train .*--json imagenet-l2-{job}.json").split()
    for pid in map(int, rows):
        process = Path("/proc", str(pid))
        is_python = b"python" in (process / "cmdline").read_bytes().split(b"\0")[0]
        if is_python and f"SLURMD_NODENAME={node}\0".encode() in (process / "environ").read_bytes():
            return pid
    raise AssertionError(f"no rank on {node} among {rows}")


def cut_power(node: str) -> None:
    """Kill the daemon of ``node`` and all that it has started, none of which must have time to tell."""
    doomed = {process for process in psutil.process_iter() if is_on(process, node)}
    doomed |= {parent for process in doomed for parent in process.parents() if parent.name() == "slurmstepd"}
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for process in doomed:
            process.send_signal(number)


def is_on(process: psutil.Process, node: str) -> bool:
    with contextlib.suppress(psutil.Error):
        return (process.name() == "slurmd" and process.cmdline()[-1] == node) or (
            process.environ().get("SLURMD_NODENAME") == node
        )
    return False


@pytest.mark.parametrize(
    ("number", "message"),
    [(signal.SIGKILL, "n2: task 1: Exited with exit code 137"), (signal.SIGSTOP, "has been silent for")],
)
def test_a_lost_rank_ends_the_job_and_is_named(
    cluster: Cluster, uninterrupted: str, number: signal.Signals, message: str
) -> None:
    name = f"lost-{number.name}"
    job = cluster.train(name, 2, ENDS)
    cluster.until_trained(name)
    os.kill(rank(cluster, job, "n2"), number)
    started = time.monotonic()
    assert cluster.end(job).startswith("FAILED"), cluster.log(job)
    print(f"ended after {time.monotonic() - started:.1f} s")
    log = cluster.log(job)
    assert message in log, log
    assert "== the same sbatch command goes on from the last checkpoint" in log
    assert cluster.end(cluster.train(name, 2, ENDS)) == "COMPLETED 0:0"
    assert cluster.weights(name) == cluster.weights(uninterrupted)


def test_a_job_whose_node_is_lost_goes_on_with_another(cluster: Cluster, uninterrupted: str) -> None:
    job = cluster.train("lost-node", 2, ENDS)
    cluster.until_trained("lost-node")
    cut_power("n2")
    try:
        # Whoever notices first: the other ranks, then the job fails; or Slurm, which starts it again.
        cluster.until(lambda: cluster.state(job)["Restarts"] == "1" or cluster.state(job)["JobState"] == "FAILED", 60)
        if cluster.state(job)["JobState"] == "FAILED":
            job = cluster.train("lost-node", 2, ENDS)
        assert cluster.end(job) == "COMPLETED 0:0", cluster.log(job)
        assert cluster.state(job)["NodeList"] in ("n[1,3]", "n[1,4]", "n[3-4]")
        assert cluster.weights("lost-node") == cluster.weights(uninterrupted)
    finally:
        cluster.run("slurmd", "-N", "n2")
        cluster.until(lambda: "IDLE" in cluster.run("scontrol", "show", "node", "n2"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_full_disk_is_told_and_the_run_goes_on_when_there_is_room(cluster: Cluster, uninterrupted: str) -> None:
    disk = cluster.path / "small"
    disk.mkdir()
    cluster.run("mount", "-t", "tmpfs", "-o", "size=1m", "none", str(disk))
    try:
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(960 << 10))
        job = cluster.train("full", 2, ENDS, f"runs={disk}")
        assert cluster.end(job) == "FAILED 2:0", cluster.log(job)
        assert "No space left on device" in cluster.log(job)
        ballast.unlink()
        assert cluster.end(cluster.train("full", 2, ENDS, f"runs={disk}")) == "COMPLETED 0:0"
        assert (disk / "full" / "model.safetensors").read_bytes() == cluster.weights(uninterrupted)
    finally:
        cluster.run("umount", str(disk))


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
