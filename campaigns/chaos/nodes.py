"""Faults of nodes and networks, and what Slurm does to a job."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from .job import Impossible, Inject, Job, Rank, processes

NOBODY = "02:00:00:00:00:01"
"""The address of no network card."""
SLOW = (("netem", "delay", "200ms"), ("tbf", "rate", "200kbit", "burst", "4kb", "latency", "2s"))
"""What makes a network slow: the first that this kernel has."""


def send(name: str) -> Inject:
    """``scancel --signal``."""

    @contextmanager
    def inject(job: Job, rank: Rank, _: Rank) -> Iterator[None]:
        job.cluster.run("scancel", f"--signal={name}", job.number)
        yield

    return inject


@contextmanager
def preempt(job: Job, rank: Rank, other: Rank) -> Iterator[None]:
    """A job of higher priority needs two of the nodes for some seconds."""
    size = ("--partition=high", "--nodes=2", "--exclusive", f"--nodelist={rank.node},{other.node}", "--time=1")
    number = job.cluster.run("sbatch", "--parsable", *size, "--output=/dev/null", "--wrap=sleep 5").strip()
    try:
        yield
    finally:
        job.cluster.run("scancel", number)


@contextmanager
def drain(job: Job, rank: Rank, _: Rank) -> Iterator[None]:
    """No new job comes to the node."""
    node = ("scontrol", "update", f"nodename={rank.node}")
    job.cluster.run(*node, "state=drain", "reason=chaos")
    try:
        yield
    finally:
        job.cluster.run(*node, "state=resume")


@contextmanager
def daemon(job: Job, rank: Rank, _: Rank) -> Iterator[None]:
    """The node's slurmd is killed, and an operator starts it again."""
    os.kill(slurmd(job, rank.node), signal.SIGKILL)
    try:
        yield
    finally:
        _start(job, rank.node)


@contextmanager
def unplug(job: Job, rank: Rank, _: Rank) -> Iterator[None]:
    """The node's network is gone."""
    link = ("ip", "-n", _network(job, rank), "link", "set", "eth0")
    job.cluster.run(*link, "down")
    try:
        yield
    finally:
        job.cluster.run(*link, "up")


@contextmanager
def power(job: Job, rank: Rank, other: Rank) -> Iterator[None]:
    """The node is gone at once: nothing there can tell, and its connections are not closed."""
    doomed = {psutil.Process(slurmd(job, rank.node))}
    for process in processes(job.cluster):
        with contextlib.suppress(psutil.Error):
            if process.environ().get("SLURMD_NODENAME") == rank.node:
                doomed |= {process, *(each for each in process.parents() if each.name() == "slurmstepd")}
    with unplug(job, rank, other):
        for process in doomed:
            with contextlib.suppress(psutil.Error):
                process.kill()
        yield
    _start(job, rank.node)


@contextmanager
def part(job: Job, rank: Rank, other: Rank) -> Iterator[None]:
    """Between two nodes nothing arrives: packets go to the address of no card."""
    ways = []
    for one, to in ((rank, other), (other, rank)):
        hosts = (job.cluster.daemons / "etc" / f"hosts.{one.node}").read_text().splitlines()
        address = next(line.split()[0] for line in hosts if line.split()[1] == to.node)
        ways.append((("ip", "-n", _network(job, one), "neigh"), (address, "dev", "eth0")))
    try:
        for command, way in ways:
            job.cluster.run(*command, "replace", *way, "lladdr", NOBODY, "nud", "permanent")
        yield
    finally:
        for command, way in ways:
            job.cluster.attempt(*command, "del", *way)


@contextmanager
def slow_network(job: Job, rank: Rank, _: Rank) -> Iterator[None]:
    """The node's packets are late."""
    queue = ("tc", "-n", _network(job, rank), "qdisc")
    if not any(job.cluster.attempt(*queue, "add", "dev", "eth0", "root", *how).returncode == 0 for how in SLOW):
        raise Impossible("the kernel has neither netem nor tbf")
    try:
        yield
    finally:
        job.cluster.run(*queue, "del", "dev", "eth0", "root")


def slurmd(job: Job, node: str) -> int:
    """The process number of a node's daemon."""
    return int((job.cluster.daemons / "run" / f"slurmd.{node}.pid").read_text())


def _start(job: Job, node: str) -> None:
    subprocess.run([job.cluster.daemons / "etc" / "start-node", node], check=True, timeout=60)


def _network(job: Job, rank: Rank) -> str:
    if not job.cluster.networks:
        raise Impossible("nodes have networks of their own only as root, with iproute2")
    return f"{job.cluster.networks}-{rank.node}"
