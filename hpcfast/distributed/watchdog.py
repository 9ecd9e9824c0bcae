"""Ends a job one of whose ranks has fallen silent (stopped, cut off, gone with its node), or whose ranks deadlock.

Horovod waits for such ranks permanently, and so does MPI. Here a thread of every rank sends rank 0 a datagram every two
seconds, and rank 0 answers each. Whoever hears nothing for a while warns of the rank that is missing; after the whole
limit all ranks leave their stack traces and end; the launcher then kills stopped ones, too. Use, on every rank::

    watchdog = Watchdog(rank, size)
    watchdog.start(broadcast_from_rank_0(watchdog.listen))  # listen() is called on rank 0 only
    ...
    watchdog.stop()  # an orderly end: from here on silence is no fault

The thread needs Python's interpreter lock, which Horovod's waits give up; code that held it so long would be blamed.
"""

import contextlib
import hmac
import json
import math
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator

from hpcfast.distributed import lines
from hpcfast.distributed.heartbeat import SHOWN, Address, Beat, deadlock, interfaces, limits, some
from hpcfast.distributed.launcher import STALL
from hpcfast.distributed.secret import SIGNATURE, sign

INTERVAL = 2.0
"""Seconds between heartbeats, at most; at least fifteen fit into the limit: so many are not lost by chance."""
BEATS = 15
DEADLOCK = 30.0
"""Seconds after which ranks that all wait for one another are given up: no network and no disk can be the cause."""
GRACE = 3
"""Intervals: a thread this late was itself stopped; and by so much rank 0's verdict precedes the last rank's, and that
the others'."""


EVERYWHERE = "0.0.0.0"


class Watchdog:
    """This rank's thread; ``step`` and ``note`` are what it tells the others about this rank, yours to set.

    ``here`` is the address at which this rank listens, by default all that the machine has. ``end`` is called in the
    thread after the message that a rank is lost; by default the process ends with 1. ``advice``, yours to set, follows
    that message.
    """

    def __init__(self, rank: int, size: int, here: str = "", end: Callable[[], object] = lambda: os._exit(1)) -> None:
        self.rank, self.size = rank, size
        self.step, self.note = 0, ""
        self._waits_in, self._since, self._waited = "", 0.0, 0.0
        self._end = end
        self._host, self._pid = socket.gethostname(), os.getpid()
        self._heard: dict[int, float] = {}  # when, of the ranks that are watched
        self._beats: dict[int, tuple[Beat, tuple[str, int]]] = {}  # the last, and the way back to its sender
        self._left: set[int] = set()  # whose late datagrams must not bring them back
        self._path = 0
        self._warned: dict[int, float] = {}  # when they fell silent, of the ranks that are warned of
        self.advice = ""
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        # Room for thousands of ranks' beats while the thread waits for its turn; the system may grant less.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self._socket.bind((here, 0))

    def listen(self, limit: float | None = None) -> Address:
        """Return, on rank 0, what all ranks must give to :meth:`start`.

        Raises:
            UserError: ``limit`` is not given, and a variable of the environment is no number of seconds.
        """
        host, port = self._socket.getsockname()
        hosts = tuple(interfaces().values()) if host == EVERYWHERE else (host,)
        given, warning = limits()
        return Address(hosts, port, secrets.token_bytes(32), given if limit is None else limit, warning)

    def start(self, address: Address) -> None:
        """Begin to watch and to be watched, unless there is only one rank or the limit is 0."""
        if self.size == 1 or not address.limit:
            return
        self._prepare(address, time.monotonic())
        self._tick(time.monotonic())
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Leave in an orderly way: tell the others, wait until they know (about a second at most)."""
        self._stopping.set()
        if self._thread and self._thread.is_alive():
            self._socket.sendto(b"", self._socket.getsockname())  # wakes the thread
            self._thread.join()
        self._socket.close()

    @contextlib.contextmanager
    def waiting(self, collective: str) -> Iterator[None]:
        """Tell the others that in this block this rank waits for them, and in which ``collective``."""
        self._waits_in, self._since = collective, time.monotonic()
        try:
            yield
        finally:
            self._waits_in = ""

    def table(self) -> str:
        """One line for each rank known here (rank 0 knows all), the longest silent first, at most 20."""
        now, heard = time.monotonic(), dict(self._heard)
        longest = sorted(heard, key=heard.__getitem__)
        lines = [f"{self._describe(rank)}: heard {now - heard[rank]:.1f} s ago" for rank in longest[:SHOWN]]
        return "\n".join(lines + [f"and {len(longest) - SHOWN} more"] * (len(longest) > SHOWN))

    def _prepare(self, address: Address, now: float) -> None:
        self._address, self._limit, self._interval = address, address.limit, min(INTERVAL, address.limit / BEATS)
        self._ticked = self._started = now

    def _run(self) -> None:
        # From now on the beats are spread over the interval: all at once they could overflow rank 0's socket.
        self._receive(self._interval * self.rank / self.size, self._stopping.is_set)
        while not self._stopping.is_set():
            self._tick(time.monotonic())
            self._receive(self._interval, self._stopping.is_set)
        self._take_leave()

    def _tick(self, now: float) -> None:
        """Once an interval: send a beat, look who is silent."""
        if now - self._ticked > GRACE * self._interval:
            # This process was stopped: what it didn't hear proves nothing.
            self._heard = dict.fromkeys(self._heard, now)
        self._ticked, self._waited = now, now - self._since
        if self.rank:
            # No answer, or none yet: try rank 0's next address (from the second on; the first is mostly loopback's).
            self._path += now - self._heard.get(0, -math.inf) > GRACE * self._interval
            self._send("beat", self._way_to(0))
        self._judge(now)

    def _judge(self, now: float) -> None:
        """End the job if a rank has been silent for too long; warn before that, and once of those never heard."""
        # If rank 0 is lost, the last rank speaks, so that not all do: it is on another node, if there is one.
        turn = 0 if self.rank == 0 else 1 if self.rank == self.size - 1 else 2
        patience = self._limit + turn * GRACE * self._interval
        silent = sorted((when, rank) for rank, when in self._heard.items() if now - when > self._limit / 2)
        if turn < 2:
            self._warn(now)
        if silent and now - silent[0][0] >= patience:
            text = self._silent(silent[0][1], sorted(rank for _, rank in silent[1:]), now)
            self._end_all(f"{text}: stopped, or its node or network is gone; ending the job")
        elif not self.rank and len(self._heard) == self.size - 1 and (why := self._deadlock()):
            self._end_all(f"{why}; ending the job")
        elif not self.rank and self._started + min(DEADLOCK, self._limit) <= now:
            self._started = math.inf  # it is said once
            if unheard := sorted(set(range(1, self.size)) - self._heard.keys() - self._left):
                text = f"warning: no heartbeat from ranks {some(unheard)}, so no one will notice if they stall; "
                text += f"is UDP port {self._address.port} of host {self._host} closed to them?"
                _say(text)

    def _warn(self, now: float) -> None:
        """Say which ranks have just fallen silent, and which are heard again."""
        seconds = self._address.warning
        if 0 < seconds < self._limit:
            silent = {rank: when for rank, when in self._heard.items() if now - when >= seconds}
            if fresh := sorted(silent.keys() - self._warned.keys()):
                waits = f"the job waits for up to {self._limit:.0f} s ({STALL})"
                _say(f"warning: {self._silent(fresh[0], fresh[1:], now)}; {waits}")
            if back := sorted(self._warned.keys() & self._heard.keys() - silent.keys()):
                _say(f"ranks {some(back)} are heard again, after {now - self._warned[back[0]]:.0f} s")
            self._warned = silent

    def _deadlock(self) -> str:
        everyone = [self._beat("beat"), *(self._beats[rank][0] for rank in self._heard)]
        return deadlock(everyone, min(DEADLOCK, self._limit))

    def _end_all(self, why: str) -> None:
        _say(f"{why}{self.advice}")
        for rank in self._beats:
            self._send("end", self._way_to(rank))
        self._finish()

    def _receive(self, seconds: float, done: Callable[[], bool]) -> None:
        """Handle what arrives for ``seconds`` or until ``done``."""
        deadline = time.monotonic() + seconds
        while not done() and (left := deadline - time.monotonic()) > 0:
            self._socket.settimeout(left)
            with contextlib.suppress(OSError):  # nothing came, or the network complains: then silence will tell
                self._handle(*self._socket.recvfrom(2048), time.monotonic())

    def _handle(self, data: bytes, sender: tuple[str, int], now: float) -> None:
        signature, text = data[:SIGNATURE], data[SIGNATURE:]
        if not hmac.compare_digest(signature, sign(self._address.key, text)):
            return
        beat = Beat(*json.loads(text))
        if beat.kind == "end":
            self._finish()
        elif beat.kind in ("bye", "ok"):
            self._left.add(beat.rank)
            self._heard.pop(beat.rank, None)
            if beat.kind == "bye":
                self._send("ok", sender)
            if self.rank:  # without rank 0 there is no one to watch
                self._stopping.set()
        elif beat.rank not in self._left:
            if not self.rank:
                self._send("beat", sender)
            self._beats[beat.rank], self._heard[beat.rank] = (beat, sender), now

    def _take_leave(self) -> None:
        """Say bye until each has confirmed it, for datagrams may be lost; give up after five times."""
        for _ in range(5):
            for rank in self._unaware():
                self._send("bye", self._way_to(rank))
            self._receive(min(self._interval, 0.2), lambda: not self._unaware())

    def _unaware(self) -> set[int]:
        """Who would take this rank's leaving for a fault."""
        return {0} - self._left if self.rank else set(self._heard)

    def _finish(self) -> None:
        self._left.update(range(self.size))
        self._heard.clear()
        self._stopping.set()
        self._end()

    def _way_to(self, rank: int) -> tuple[str, int]:
        hosts = self._address.hosts
        return (hosts[self._path % len(hosts)], self._address.port) if self.rank else self._beats[rank][1]

    def _send(self, kind: str, to: tuple[str, int]) -> None:
        with contextlib.suppress(OSError):  # the network is down: then silence will tell
            text = json.dumps(self._beat(kind)).encode()
            self._socket.sendto(sign(self._address.key, text) + text, to)

    def _beat(self, kind: str) -> Beat:
        note, waits_in = self.note[:100], self._waits_in
        return Beat(kind, self.rank, self._host, self._pid, self.step, note, waits_in, self._waited)

    def _describe(self, rank: int) -> str:
        return self._beats[rank][0].sender()

    def _silent(self, rank: int, others: list[int], now: float) -> str:
        more = f" (so have ranks {some(others)})" if others else ""
        return f"{self._describe(rank)} has been silent for {now - self._heard[rank]:.0f} s{more}"


def _say(text: str) -> None:
    lines.write(text, sys.stderr)
