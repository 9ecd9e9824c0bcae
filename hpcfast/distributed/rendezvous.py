"""Ranks that srun started without any MPI find one another: rank 0 serves the table in which Gloo meets.

horovodrun does the same for the ranks it starts. Here nobody is there before the ranks, so they must agree on a port
without a word, and without a shared file system: each job step draws the same few candidates from its name and the
job's secret. Rank 0 takes the first free one; the others ask the candidates in turn until one answers that knows the
secret too. (Slurm's own reserved ports exist only where a site set them up.)
"""

import contextlib
import os
import random
import socket
import time
from collections.abc import Sequence
from itertools import product

from hpcfast.distributed.heartbeat import interfaces
from hpcfast.distributed.launcher import Step
from hpcfast.distributed.secret import VARIABLE, secret, sign
from hpcfast.distributed.table import Client, Server, Stranger, Table
from hpcfast.errors import UserError

CANDIDATES = 8
PORTS = range(20000, 32768)
"""Below those that the kernel gives to clients (32768 and up, unless changed)."""
PATIENCE = 120.0
"""Seconds until rank 0 must be there: another node may import torch more slowly."""
LOOPBACK = "127.0.0.1"
ADDRESS = "HPCFAST_GLOO_ADDRESS"
"""The variable that has this rank's address for Gloo, which Horovod's process sets read, too."""


def meet(step: Step) -> None:
    """Set the environment by which ``hvd.init()`` finds the other ranks of ``step``; raises what :func:`find` does."""
    client, server, interface = find(step)
    os.environ.update(
        step.horovod(),
        HOROVOD_HOSTNAME=os.environ.get("SLURMD_NODENAME", socket.gethostname()),
        HOROVOD_CONTROLLER="gloo",
        HOROVOD_CPU_OPERATIONS="gloo",
        HOROVOD_GLOO_RENDEZVOUS_ADDR=LOOPBACK,
        HOROVOD_GLOO_RENDEZVOUS_PORT=str(server.listen(client.answer, [LOOPBACK], 0)),
    )
    # Gloo would take the address of the host's name, which on many machines is 127.0.1.1.
    if interface:
        os.environ.setdefault("HOROVOD_GLOO_IFACE", interface)


def find(step: Step) -> tuple[Client, Server, str | None]:
    """This rank's way to the table of ``step``, its own server, and the interface by which it reaches the others.

    Raises:
        UserError: on rank 0, which finds no free port or has no secret; or HPCFAST_SECRET is none.
        ConnectionError: on any other rank; it has not reached rank 0, or its node has no secret.
    """
    try:
        key = sign(secret(), step.name.encode())
    except UserError as error:
        if step.rank == 0 or VARIABLE in os.environ:
            raise
        raise ConnectionError(
            str(error)
        ) from None  # a file of this node: rank 0, which prints UserErrors, may have one
    ports = random.Random(key).sample(PORTS, CANDIDATES)
    hosts, server = _hosts(step), Server()
    client = _find(server, key, hosts, ports) if step.rank else _serve(server, key, hosts, ports)
    return client, server, _interface(step, [client.host] if step.node else hosts)


def listen_there() -> None:
    """Have Horovod's process sets use the interface that ``HOROVOD_GLOO_IFACE`` names (scripts/horovod_build)."""
    os.environ.pop(ADDRESS, None)  # of a process on another node, which has started this one
    if address := address_of(os.environ.get("HOROVOD_GLOO_IFACE", "")):
        os.environ[ADDRESS] = address


def address_of(interface: str) -> str:
    """The address of a network interface of this machine; empty if it has none of that name."""
    return interfaces().get(interface, "")


def _hosts(step: Step) -> list[str]:
    """Addresses rank 0 may be reached at: its node's name is not always known, and srun may run elsewhere."""
    if len(step.tasks) == 1:
        return [LOOPBACK]
    hosts: list[str] = []
    for host in (step.first_node, os.environ.get("SLURM_LAUNCH_NODE_IPADDR")):
        with contextlib.suppress(OSError):  # a name that this machine doesn't know
            hosts += [socket.gethostbyname(host)] if host else []
    return list(dict.fromkeys(hosts))


def _serve(server: Server, key: bytes, hosts: list[str], ports: Sequence[int]) -> Client:
    """Serve the table where the others look for it, or everywhere, if this machine does not know where that is."""
    here = [host for host in hosts if host in interfaces().values() and (host != LOOPBACK or hosts == [LOOPBACK])]
    for port in ports:
        with contextlib.suppress(OSError):
            server.listen(Table(key).answer, here or ["0.0.0.0"], port)
            return Client(key, (here or [LOOPBACK])[0], port)
    raise UserError(
        f"ports {_listed(ports)} of {socket.gethostname()} are all taken, so the ranks cannot meet there; submit the "
        "job again (another job draws others), or use MPI: srun --mpi=pmix"
    )


def _find(server: Server, key: bytes, hosts: list[str], ports: Sequence[int]) -> Client:
    deadline = time.monotonic() + PATIENCE
    cause = f"it has ended, a firewall closes them, or it has another secret ({VARIABLE}; nodes must share it)"
    while time.monotonic() < deadline:
        for host, port in product(hosts, ports):
            client = Client(key, host, port)
            try:
                server.run(client.ask("GET", "rank 0"))
            except Stranger:
                cause = f"what listens at port {port} of {host} does not know this job's secret ({VARIABLE})"
            except OSError:
                pass  # nobody listens there
            else:
                return client
        time.sleep(random.uniform(0.1, 0.5))  # not all ranks at once
    raise ConnectionError(
        f"{socket.gethostname()} has not found rank 0 within {PATIENCE:.0f} s at {' or '.join(hosts) or 'any address'}"
        f", ports {_listed(ports)}: {cause}; look for rank 0's message, or use MPI: srun --mpi=pmix"
    )


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


def _listed(ports: Sequence[int]) -> str:
    return ", ".join(map(str, sorted(ports)))
