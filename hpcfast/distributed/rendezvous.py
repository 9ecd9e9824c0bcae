"""Ranks that srun started without any MPI find one another: rank 0 serves the table in which Gloo meets.

horovodrun does the same for the ranks it starts. Here nobody is there before the ranks, so they must agree on a port
without a word, and without a shared file system: each job step draws the same few candidates from its own name. Rank
0 takes the first free one and writes the step's name into its table; the others ask the candidates in turn until one
answers with that name, which no other job's does. (Slurm's own reserved ports exist only where a site set them up.)
"""

import contextlib
import http.client
import os
import random
import socket
import threading
import time
from itertools import product

from horovod.runner.http.http_server import RendezvousHandler, RendezvousHTTPServer

from hpcfast.distributed.heartbeat import interfaces
from hpcfast.distributed.launcher import Step
from hpcfast.errors import UserError

CANDIDATES = 8
PORTS = range(20000, 32768)
"""Below those that the kernel gives to clients (32768 and up, unless changed)."""
PATIENCE = 120.0
"""Seconds until rank 0 must be there: another node may import torch more slowly."""
SECONDS = 5.0
"""For an answer."""


class _Server(RendezvousHTTPServer):
    request_queue_size = 4096  # thousands of ranks come at once
    daemon_threads = True


def meet(step: Step) -> None:
    """Set the environment by which ``hvd.init()`` finds the other ranks of ``step``.

    Raises:
        UserError: on rank 0, which finds no free port.
        ConnectionError: on any other rank; it has not reached rank 0.
    """
    name = _name()
    ports = random.Random(name).sample(PORTS, CANDIDATES)
    hosts = _hosts(step)
    host, port = ("127.0.0.1", _serve(name, ports)) if step.rank == 0 else _find(name, hosts, ports)
    os.environ.update(
        step.horovod(),
        HOROVOD_HOSTNAME=os.environ.get("SLURMD_NODENAME", socket.gethostname()),
        HOROVOD_CONTROLLER="gloo",
        HOROVOD_CPU_OPERATIONS="gloo",
        HOROVOD_GLOO_RENDEZVOUS_ADDR=host,
        HOROVOD_GLOO_RENDEZVOUS_PORT=str(port),
    )
    # Gloo would take the address of the host's name, which on many machines is 127.0.1.1.
    if interface := _interface(step, [host] if step.node else hosts):
        os.environ.setdefault("HOROVOD_GLOO_IFACE", interface)


def listen_there() -> None:
    """Have Horovod's process sets use the interface that ``HOROVOD_GLOO_IFACE`` names (scripts/horovod_build)."""
    os.environ.pop("HPCFAST_GLOO_ADDRESS", None)  # of a process on another node, which has started this one
    if address := interfaces().get(os.environ.get("HOROVOD_GLOO_IFACE", "")):
        os.environ["HPCFAST_GLOO_ADDRESS"] = address


def _name() -> str:
    """What no other step has; a requeued job counts its restarts."""
    parts = ("SLURM_CLUSTER_NAME", "SLURM_JOB_UID", "SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT")
    return "-".join(os.environ.get(part, "0") for part in parts)


def _hosts(step: Step) -> list[str]:
    """Addresses rank 0 may be reached at: its node's name is not always known, and srun may run elsewhere."""
    hosts: list[str] = []
    for host in (step.first_node, os.environ.get("SLURM_LAUNCH_NODE_IPADDR")):
        with contextlib.suppress(OSError):  # a name that this machine doesn't know
            hosts += [socket.gethostbyname(host)] if host else []
    return list(dict.fromkeys(hosts))


def _serve(name: str, ports: list[int]) -> int:
    for port in ports:
        try:
            server = _Server(("", port), RendezvousHandler, 0)
        except OSError:
            continue
        server.init([])
        server.cache["hpcfast"] = {"step": name.encode()}
        threading.Thread(target=server.serve_forever, name="rendezvous", daemon=True).start()
        return port
    raise UserError(
        f"ports {_listed(ports)} of {socket.gethostname()} are all taken, so the ranks cannot meet there; submit the "
        "job again (another job draws others), or use MPI: srun --mpi=pmix"
    )


def _find(name: str, hosts: list[str], ports: list[int]) -> tuple[str, int]:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        for host, port in product(hosts, ports):
            if _answer(host, port) == name:
                return host, port
        time.sleep(random.uniform(0.1, 0.5))  # not all ranks at once
    raise ConnectionError(
        f"{socket.gethostname()} has not found rank 0 within {PATIENCE:.0f} s at {' or '.join(hosts) or 'any address'}"
        f", ports {_listed(ports)}: it has ended, or a firewall closes them; look for its message, or use MPI: "
        "srun --mpi=pmix"
    )


def _answer(host: str, port: int) -> str | None:
    """The name of the step whose rank 0 listens there, if one does."""
    connection = http.client.HTTPConnection(host, port, timeout=SECONDS)
    try:
        connection.request("GET", "/hpcfast/step")
        response = connection.getresponse()
        return response.read(200).decode(errors="replace") if response.status == http.client.OK else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def _interface(step: Step, ways: list[str]) -> str | None:
    """The interface by which this node reaches the others: the one towards the first of ``ways`` that has one."""
    if len(step.tasks) == 1:
        return "lo"
    for way in ways:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((way, 9))  # sends nothing, only asks for the route
            mine = probe.getsockname()[0]
            found = next((name for name, address in interfaces().items() if address == mine), "lo")
        if found != "lo" or way == ways[-1]:
            return found
    return None


def _listed(ports: list[int]) -> str:
    return ", ".join(map(str, sorted(ports)))
