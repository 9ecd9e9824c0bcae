"""Ranks that fail: the job says which and why, and goes on, by itself where that can help."""

import json
import os
import re
import signal
import time
from pathlib import Path

import pytest

from tests.slurm.conftest import ENDS, Cluster

pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.usefixtures("idle")]
LONG = "epochs=4000"
V1, V2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
MEMORY, LIMIT = (V1, "memory.limit_in_bytes") if V1.is_dir() else (V2, "memory.max")
"""Control groups of the kernel, version 1 or 2."""


def rank(cluster: Cluster, job: str, node: str) -> int:
    """The process number of the job's rank on ``node``."""
    ours = {f"{name}={value}".encode() for name, value in (("SLURMD_NODENAME", node), ("SLURM_CONF", cluster.conf))}
    rows = cluster.run("pgrep", "-f", rf"hpcfast train .*--json train-{job}.json").split()
    for pid in map(int, rows):
        process = Path("/proc", str(pid))
        words = (process / "cmdline").read_bytes().split(b"\0")
        is_python = b"python" in words[0] and words[1].endswith(b"hpcfast")
        if is_python and ours <= {*(process / "environ").read_bytes().split(b"\0")}:
            return pid
    raise AssertionError(f"no rank on {node} among {rows}")


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (signal.SIGKILL, "was killed, by somebody, or because"),
        pytest.param(signal.SIGSTOP, "or its node or network is gone; ending the job", marks=pytest.mark.long),
    ],
)
def test_a_lost_rank_is_named_and_the_job_goes_on_in_its_allocation(
    cluster: Cluster, uninterrupted: str, number: signal.Signals, message: str
) -> None:
    name = f"lost-{number.name}"
    job = cluster.train(name, 2, ENDS, HPCFAST_STALL_SECONDS="30")
    cluster.until_trained(name)
    os.kill(rank(cluster, job, "n2"), number)
    lost = time.time()
    assert cluster.end(job) == "COMPLETED 0:0", cluster.log(job)
    log = cluster.log(job)
    assert message in log, log
    assert "started again in this allocation, restart 1 of at most 3 without progress" in log
    assert cluster.state(job)["Restarts"] == "0"
    assert cluster.weights(name) == cluster.weights(uninterrupted)
    print(f"trained again after {first_step(cluster, name, lost):.1f} s")


def first_step(cluster: Cluster, name: str, since: float) -> float:
    """Seconds until the next process of run ``name`` had trained its first step."""
    events = map(json.loads, (cluster.path / "runs" / name / "events.jsonl").read_text().splitlines())
    later = [event for event in events if event["time"] > since]
    began = next(number for number, event in enumerate(later) if event["key"] == "init_start")
    return float(next(event["time"] for event in later[began:] if event["key"] == "train_loss")) - since


@pytest.mark.long
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can limit memory")
def test_a_rank_that_is_out_of_memory_is_told_from_one_that_was_killed(cluster: Cluster) -> None:
    group = MEMORY / f"hpcfast-{os.getpid()}"
    group.mkdir()
    try:
        if not (group / LIMIT).exists():
            pytest.skip(f"no memory controller in {MEMORY}")
        (group / LIMIT).write_text(str(100 << 20))  # less than torch alone
        enter = cluster.path / "enter.sh"
        enter.write_text(f'[ "$SLURMD_NODENAME" != n2 ] || echo $$ >{group}/cgroup.procs\nexec "$@"\n')
        site = cluster.path / "small-site.sh"
        site.write_text(f"{(cluster.path / 'site.sh').read_text()}HPCFAST_CONTAINER=(bash {enter})\n")
        job = cluster.train("hungry", 2, HPCFAST_SITE=str(site))
        assert cluster.end(job) == "FAILED 137:0", cluster.log(job)
        assert re.search(r"1: rank 1 on host \S+ was killed, out of memory: ask for more --mem", cluster.log(job))
    finally:
        group.rmdir()


@pytest.mark.long
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_full_disk_is_told_and_the_run_goes_on_when_there_is_room(cluster: Cluster, uninterrupted: str) -> None:
    disk = cluster.daemons / "shared" / "small"
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


def test_a_job_taken_away_with_sigterm_goes_on_until_its_restarts_are_used_up(cluster: Cluster) -> None:
    job = cluster.train("preempted", 2, LONG, HPCFAST_MAX_REQUEUES="1")
    cluster.until_trained("preempted")
    cluster.run("scancel", "--signal=TERM", f"{job}.0")  # what Slurm does to the steps of a job it preempts
    cluster.until(lambda: cluster.state(job)["Restarts"] == "1")
    cluster.until_trained("preempted")
    cluster.run("scancel", "--signal=TERM", f"{job}.0")
    assert cluster.end(job) == "FAILED 75:0"
    assert "1 of at most 1 restarts" in cluster.log(job)
