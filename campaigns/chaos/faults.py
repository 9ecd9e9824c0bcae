"""The faults, a function each: its block does one to a rank, to its node or to the job, and its end mends that."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from .job import Job, Rank, processes

MEMORY = 1 << 28
"""Bytes."""
NOBODY = "02:00:00:00:00:01"
"""The address of no network card."""
SLOW = (("netem", "delay", "200ms"), ("tbf", "rate", "200kbit", "burst", "4kb", "latency", "2s"))
"""What makes a network slow: the first that this kernel has."""
DUTY = "while kill -STOP {pid}; do sleep 0.6; kill -CONT {pid} || exit; sleep 0.1; done"
Inject = Callable[[Job, Rank, Rank], AbstractContextManager[object]]


class Impossible(Exception):
    """This machine lacks what it takes."""


@contextmanager
def kill(job: Job, rank: Rank, _: Rank) -> Iterator[None]:
    """The kernel ends the rank."""
    os.kill(rank.pid, signal.SIGKILL)
    yield


@contextmanager
def stop(job: Job, rank: Rank, _: Rank) -> Iterator[None]:
    """The rank stands still; Slurm ends it with the job."""
    os.kill(rank.pid, signal.SIGSTOP)
    yield


@contextmanager
def slow_rank(job: Job, rank: Rank, _: Rank) -> Iterator[None]:
    """The rank runs for a seventh of the time."""
    shell = subprocess.Popen(["bash", "-c", DUTY.format(pid=rank.pid)], stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        shell.kill()
        shell.wait()
        with contextlib.suppress(ProcessLookupError):
            os.kill(rank.pid, signal.SIGCONT)


@contextmanager
def daemon(job: Job, rank: Rank, _: Rank) -> Iterator[None]:
    """The node's slurmd is killed, and an operator starts it again."""
    os.kill(_daemon(job, rank.node), signal.SIGKILL)
    try:
        yield
    finally:
        _start(job, rank.node)


def _daemon(job: Job, node: str) -> int:
    return int((job.cluster.daemons / "run" / f"slurmd.{node}.pid").read_text())


def _start(job: Job, node: str) -> None:
    subprocess.run([job.cluster.daemons / "etc" / "start-node", node], check=True, timeout=60)


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
    doomed = {psutil.Process(_daemon(job, rank.node))}
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


def _network(job: Job, rank: Rank) -> str:
    if not job.cluster.networks:
        raise Impossible("nodes have networks of their own only as root, with iproute2")
    return f"{job.cluster.networks}-{rank.node}"


@contextmanager
def fill(job: Job, rank: Rank, _: Rank) -> Iterator[None]:
    """The disk of runs is full."""
    ballast = job.disk / "ballast"
    try:
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1 << 12))
        yield
    finally:
        ballast.unlink()


@contextmanager
def read_only(job: Job, rank: Rank, _: Rank) -> Iterator[None]:
    """The folder of checkpoints, on all nodes."""
    nodes = [("nsenter", f"--target={each.pid}", "--mount") for each in job.ranks()]
    folder = str(job.run / "checkpoints")
    for node in nodes:
        job.cluster.run(*node, "mount", "--bind", folder, folder)
    try:
        for node in nodes:
            job.cluster.run(*node, "mount", "-o", "remount,bind,ro", folder)
        yield
    finally:
        for number in range(1, 5):
            daemon = ("nsenter", f"--target={_daemon(job, f'n{number}')}", "--mount")
            job.cluster.attempt(*daemon, "umount", "--lazy", folder)


@contextmanager
def half_image(job: Job, rank: Rank, _: Rank) -> Iterator[None]:
    """Somebody begins to copy an image into the data folder."""
    source = next((job.cluster.path / "images" / "train").rglob("*.png"))
    half = source.with_name("zzz.png")
    half.write_bytes(source.read_bytes()[:100])
    try:
        yield
    finally:
        half.unlink()


@contextmanager
def half_checkpoint(job: Job, rank: Rank, _: Rank) -> Iterator[None]:
    """The newest is cut off, and a rank killed: only who goes on from it can notice."""
    for each in job.ranks():
        os.kill(each.pid, signal.SIGKILL)
    newest = max((job.run / "checkpoints").glob("step-*.pt"), key=lambda file: file.stat().st_mtime)
    os.truncate(newest, newest.stat().st_size // 2)
    yield


def poke(word: str) -> Inject:
    """Have the rank read ``word``: see overlay/sitecustomize.py."""

    @contextmanager
    def inject(job: Job, rank: Rank, _: Rank) -> Iterator[None]:
        file = job.cluster.path / "pokes" / str(rank.pid)
        file.write_text(word)
        os.kill(rank.pid, signal.SIGUSR1)
        yield
        if word.startswith("clock"):
            file.write_text("clock 0")
            with contextlib.suppress(ProcessLookupError):
                os.kill(rank.pid, signal.SIGUSR1)

    return inject


@contextmanager
def starve(job: Job, rank: Rank, other: Rank) -> Iterator[None]:
    """The rank wants more memory than its control group, which its wrapper is in too, may have."""
    group = Path("/sys/fs/cgroup/memory")
    group = (group if group.is_dir() else group.parent) / f"chaos-{os.getpid()}-{rank.pid}"
    try:
        group.mkdir()
        limit = next(file for name in ("memory.limit_in_bytes", "memory.max") if (file := group / name).exists())
    except (OSError, StopIteration) as error:
        raise Impossible(f"no control group of memory: {error}") from None
    try:
        for pid in (psutil.Process(rank.pid).ppid(), rank.pid):
            (group / "cgroup.procs").write_text(str(pid))
        limit.write_text(str(MEMORY))
        with poke(f"memory {2 * MEMORY}")(job, rank, other):
            yield
    finally:
        for pid in (group / "cgroup.procs").read_text().split():
            with contextlib.suppress(OSError):
                (group.parent / "cgroup.procs").write_text(pid)
        group.rmdir()


@dataclass(frozen=True)
class Kind:
    """A fault, and what should be said of it."""

    inject: Inject
    seconds: float = 0
    """Until it is mended."""
    said: str = ""
    """A pattern of the job's log or of an event; {rank} and {node} are where it names the culprit. Empty: nothing."""
    person: bool = False
    """Whether only a person can mend it: the job ends."""


KINDS = {
    "rank killed": Kind(kill, said=r"rank {rank} on host {node} was killed, by somebody"),
    "rank stopped": Kind(stop, said=r"rank {rank} on host {node} .*has been silent for 1\d s"),
    "slow rank": Kind(slow_rank, 30, said=r"stragglers.*rank {rank} on {node}"),
    "out of memory": Kind(starve, 20, said=r"rank {rank} on host {node} was killed, out of memory"),
    "no number on a rank": Kind(poke("nan"), said=r"training has diverged: the loss is nan .*on rank {rank}"),
    "clock an hour ahead": Kind(poke("clock 3600"), 20),
    "clock an hour behind": Kind(poke("clock -3600"), 20),
    "slurmd killed": Kind(daemon, 40, said=r"JOB \d+ ON \S+ CANCELLED .*NODE FAILURE|[Nn]ode failure on {node}"),
    "node lost": Kind(power, 40, said=r"rank {rank} on host {node} .*silent|[Nn]ode failure on {node}"),
    "node cut off": Kind(unplug, 40, said=r"rank {rank} on host {node} .*silent|[Nn]ode failure on {node}"),
    "two nodes parted": Kind(part, 8),
    "slow network": Kind(slow_network, 15),
    "USR2": Kind(send("USR2"), said=r"USR2: stopping"),
    "TERM": Kind(send("TERM"), said=r"TERM: stopping"),
    "preempted": Kind(preempt, 25, said=r"TERM: stopping"),
    "node drained": Kind(drain, 20),
    "disk full": Kind(fill, 20, said=r"No space left on device", person=True),
    "checkpoints read-only": Kind(read_only, 20, said=r"Read-only file system", person=True),
    "half an image": Kind(half_image, 20),
    "half a checkpoint": Kind(half_checkpoint, said=r"checkpoint .* cannot be read"),
}
