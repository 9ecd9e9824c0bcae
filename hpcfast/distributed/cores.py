"""Which cores of its machine a rank computes on.

srun and mpirun bind each rank to cores of its own; horovodrun lets every rank use all. The kernel then moves ranks
about: two meet on a core while another idles, and all ranks wait, at every step, for the one that came off worst
(docs/speed.md). So ranks on CPUs that were given the same cores divide them here.
"""

import os
import socket
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path

TOPOLOGY = Path("/sys/devices/system/cpu")
CLAIM = "hpcfast core"
"""What claims are called, with the core's number behind."""

_given: frozenset[int] = frozenset()
"""What this process could use when it joined a job for the first time."""
_claims: list[socket.socket] = []
"""Of the cores it is bound to: names that the kernel forgets when it ends, however it ends."""


@dataclass(frozen=True)
class Cores:
    """Cores of this machine."""

    fair: int
    """A rank's share: each core it may use, divided by the ranks here that may use it too; at least 1."""
    all: int
    """Those that the ranks here may use together."""


Told = tuple[str, list[int]]
"""A rank's machine, and the cores that it may use there."""


def settle(gather: Callable[[Told], list[Told]], rank: int, bind: bool) -> Cores:
    """Find this rank's share of its machine; a collective, by ``gather``.

    Args:
        bind: keep each of the ranks that were given the same cores to a part of its own, if there are enough, if no
            other rank was given any of them, and if no other job's ranks are bound to them.
    """
    global _given
    _release()
    _given = _given or frozenset(os.sched_getaffinity(0))
    machine, mine = socket.gethostname(), sorted(_given)
    everyone = gather((machine, mine))
    users = Counter(chain.from_iterable(cores for host, cores in everyone if host == machine))
    alike = [number for number, told in enumerate(everyone) if told == (machine, mine)]
    if bind and 1 < len(alike) <= len(mine) and all(users[core] == len(alike) for core in mine):
        _keep_to(parts(mine, len(alike))[alike.index(rank)])
    return Cores(max(1, int(sum(1 / users[core] for core in mine) + 1e-6)), len(users))


def parts(cores: list[int], number: int) -> list[list[int]]:
    """Divide ``cores`` into as many parts of neighbours; the two threads of a core stay together where that divides."""
    ordered = sorted(cores, key=_place)
    edges = [part * len(ordered) // number for part in range(number + 1)]
    return [ordered[low:high] for low, high in pairwise(edges)]


def _place(core: int) -> tuple[int, ...]:
    """Socket, core of the socket, thread of the core; by number alone where the kernel does not tell."""
    files = [TOPOLOGY / f"cpu{core}" / "topology" / name for name in ("physical_package_id", "core_id")]
    return (*(int(file.read_text()) if file.is_file() else 0 for file in files), core)


def _keep_to(cores: list[int]) -> None:
    """Bind all threads of this process, Horovod's, too, unless another job has claimed one of ``cores``."""
    try:
        for core in cores:
            _claims.append(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
            _claims[-1].bind(f"\0{CLAIM} {core}")
    except OSError:
        _release()
        return
    _bind(cores)


def _release() -> None:
    """Give claims back, and let this process use all it was given."""
    if _given and _claims:
        _bind(_given)
    while _claims:
        _claims.pop().close()


def _bind(cores: list[int] | frozenset[int]) -> None:
    for thread in Path("/proc/self/task").iterdir():
        with suppress(OSError):  # it has just ended, or the machine forbids it
            os.sched_setaffinity(int(thread.name), cores)
