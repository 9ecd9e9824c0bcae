"""Nodes that fail: cut off, without their daemon, or gone; the job ends or goes on, and is complete in the end."""

import contextlib
import re
import signal
import time

import psutil
import pytest

from tests.slurm.conftest import ENDS, Cluster

pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.usefixtures("idle")]


def cut_power(cluster: Cluster, node: str) -> None:
    """Kill the daemon of ``node`` and all that it has started, none of which must have time to tell."""
    doomed = {process for process in psutil.process_iter() if is_on(cluster, process, node)}
    doomed |= {parent for process in doomed for parent in process.parents() if parent.name() == "slurmstepd"}
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for process in doomed:
            process.send_signal(number)


def is_on(cluster: Cluster, process: psutil.Process, node: str) -> bool:
    with contextlib.suppress(psutil.Error):
        env = process.environ()
        daemon = process.name() == "slurmd" and process.cmdline()[-1] == node
        return env.get("SLURM_CONF") == cluster.conf and (daemon or env.get("SLURMD_NODENAME") == node)
    return False


def complete(cluster: Cluster, job: str, name: str, uninterrupted: str) -> None:
    """See that ``job`` is requeued within a minute, by the other ranks or by Slurm, and that its run is completed."""
    cluster.until(lambda: cluster.state(job)["Restarts"] == "1", 60)
    assert cluster.end(job) == "COMPLETED 0:0", cluster.log(job)
    assert cluster.weights(name) == cluster.weights(uninterrupted)


def test_a_job_whose_node_is_lost_goes_on_with_another(cluster: Cluster, uninterrupted: str) -> None:
    job = cluster.train("lost-node", 2, ENDS)
    cluster.until_trained("lost-node")
    cut_power(cluster, "n2")
    try:
        complete(cluster, job, "lost-node", uninterrupted)
        assert cluster.state(job)["NodeList"] in ("n[1,3]", "n[1,4]", "n[3-4]")
    finally:
        cluster.start_node("n2")


@pytest.mark.long
@pytest.mark.parametrize("rank", [0, 1])
def test_a_node_whose_daemon_alone_was_killed_does_not_disturb_the_jobs_next_start(cluster: Cluster, rank: int) -> None:
    """The rank of that node lives on, and rank 0 is the one that writes."""
    name = f"headless-{rank}"
    job = cluster.train(name, 2, "epochs=4000")
    cluster.until_trained(name)
    node = cluster.run("scontrol", "show", "hostnames", cluster.state(job)["NodeList"]).split()[rank]
    next(each for each in psutil.process_iter() if each.name() == "slurmd" and is_on(cluster, each, node)).kill()
    try:
        cluster.until(lambda: cluster.state(job)["Restarts"] == "1", 150)  # 20 to 60 s on an idle machine
        cluster.until(lambda: f"going on with runs/{name}" in cluster.log(job))
        cluster.until_trained(name, 3)
    finally:
        cluster.run("scancel", job)
        cluster.start_node(node)


@pytest.mark.long
def test_a_node_cut_off_the_network_is_named(cluster: Cluster, uninterrupted: str) -> None:
    if not cluster.networks:
        pytest.skip("nodes have networks of their own only as root, with iproute2")
    job = cluster.train("cut-off", 2, ENDS, HPCFAST_STALL_SECONDS="12")
    cluster.until_trained("cut-off")
    link = ("ip", "-n", f"{cluster.networks}-n2", "link", "set", "eth0")
    cluster.run(*link, "down")
    started = time.monotonic()
    try:
        cluster.until(lambda: "== ranks ended with code 1" in cluster.log(job), 60)
        print(f"ended after {time.monotonic() - started:.1f} s")
        assert re.search(r"^0: rank 1 on host n2 .* has been silent for 12 s", cluster.log(job), re.MULTILINE)
        complete(cluster, job, "cut-off", uninterrupted)
    finally:
        cluster.run(*link, "up")
