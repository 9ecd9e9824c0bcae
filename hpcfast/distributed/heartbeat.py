"""What heartbeats carry, and what can be read from them."""

import contextlib
import math
import os
import socket
from collections.abc import Iterable
from typing import NamedTuple

from psutil import net_if_addrs

from hpcfast.distributed.launcher import LIMIT, STALL
from hpcfast.errors import UserError

WARNING = 10.0
"""Seconds of silence after which a rank is warned of, unless this variable says otherwise:"""
WARNING_VARIABLE = "HPCFAST_WARN_SECONDS"
SHOWN = 20
"""Ranks that a message lists; there may be thousands."""


class Address(NamedTuple):
    """Where rank 0 listens; what every rank must know."""

    hosts: tuple[str, ...]
    """Rank 0's IPv4 addresses; not all of them can be reached from everywhere."""
    port: int
    key: bytes
    """Random: signs the datagrams of this job."""
    limit: float
    """Seconds of silence that end the job; rank 0's choice: launchers don't hand every variable to other nodes."""
    warning: float
    """Seconds of silence that are warned of."""


class Beat(NamedTuple):
    """What a datagram says about its sender."""

    kind: str
    """"beat"; "bye": I leave; "ok": I know that you leave; "end": the job is over."""
    rank: int
    host: str
    pid: int
    step: int
    note: str
    waits_in: str
    """The collective in which it waits for other ranks; empty while it works."""
    waited: float
    """Seconds, so far."""

    def sender(self) -> str:
        """Who it is, for a message."""
        return (
            f"rank {self.rank} on host {self.host} (pid {self.pid}, step {self.step}{self.note and ', ' + self.note})"
        )


def deadlock(beats: Iterable[Beat], limit: float) -> str:
    """Why no rank will ever go on, judging by the last beats of all of them; empty while one may.

    All ranks have waited in collectives for longer than ``limit`` seconds, and not all in the same one: their numbers
    of steps or of calls differ. Silence would not show that: such ranks are alive and beat.
    """
    last = list(beats)
    places: dict[str, Beat] = {}
    for beat in last:
        places.setdefault(beat.waits_in, beat)
    if len(places) < 2 or "" in places or min(beat.waited for beat in last) < limit:
        return ""
    where = ", ".join(f"{beat.sender()} in '{place}'" for place, beat in sorted(places.items()))
    return f"all ranks have waited for one another for {limit:.0f} s, and not at the same place: {where}"


def interfaces() -> dict[str, str]:
    """The IPv4 address of each network interface; a host's name may well mean 127.0.1.1 only."""
    all_of = {name: [each for each in found if each.family == socket.AF_INET] for name, found in net_if_addrs().items()}
    return {name: found[0].address for name, found in all_of.items() if found}


def some(ranks: list[int]) -> str:
    """The first of ``ranks``, for a message."""
    return ", ".join(map(str, ranks[:SHOWN])) + f" and {len(ranks) - SHOWN} more" * (len(ranks) > SHOWN)


def limits() -> tuple[float, float]:
    """Seconds of silence that end the job, and that are warned of, as the environment says.

    Raises:
        UserError: a variable is no number of seconds.
    """
    return _seconds(STALL, LIMIT), _seconds(WARNING_VARIABLE, WARNING)


def _seconds(variable: str, default: float) -> float:
    given = os.environ.get(variable, str(default))
    with contextlib.suppress(ValueError):
        if 0 <= float(given) < math.inf:
            return float(given)
    what = "which the job ends, for example 300" if variable == STALL else "which it is warned of, for example 10"
    raise UserError(f"{variable}={given}: give the seconds of a rank's silence after {what}, or 0 for never")
