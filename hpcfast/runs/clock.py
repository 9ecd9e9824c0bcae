"""Where a run's time goes, in seconds.

The wall clock starts when the run is first started and never pauses: evaluations, checkpoints, interruptions and
lost work are on it. At any moment it counts for one of ``PARTS``, so the parts add up to its reading. All of it is
part of the checkpoint.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

PARTS = (
    *("start", "attack", "update", "communication", "data_wait", "guard", "evaluation", "checkpoint"),
    *("lost", "other"),
)
"""``communication`` is waiting for other ranks: what the backward pass does not hide. ``lost`` are interruptions,
and work that was undone or is repeated."""


Lap = tuple[str, Any]
"""A part of the clock, and the moment on the device's own clock at which it began."""


class Clock:
    """Seconds by part, and those in ``training()``: wall, and CPU of all threads of this process.

    Args:
        started: when the run was first, seconds since 1970; now if it is new.
        mark: returns the present moment of a device that works on its own, where there is one, as a
            ``torch.cuda.Event`` has it; it must not wait.
    """

    def __init__(self, started: float | None = None, mark: Callable[[], Any] | None = None) -> None:
        now = time.time()
        self.started = now if started is None else started
        self._zero = time.perf_counter() - (now - self.started)
        self.trained = self.trained_cpu = 0.0
        self.watch: Callable[[str], object] = lambda part: None
        """Told of every turn: a profile names its ranges so."""
        self._part, self._since = "start", 0.0
        self._seconds = dict.fromkeys(PARTS, 0.0)
        self._stopped: dict[str, float] | None = None
        self._mark = mark
        self._laps: list[Lap] = []
        self._last: tuple[dict[str, float], list[Lap]] | None = None

    @property
    def wall(self) -> float:
        """Seconds since the run was first started."""
        return time.perf_counter() - self._zero

    @property
    def seconds(self) -> dict[str, float]:
        """The reading by part; of a clock that was stopped: when it was."""
        self.switch(self._part)
        return dict(self._stopped or self._seconds)

    @property
    def idle(self) -> float:
        """Seconds since time began to count for the present part: of a step that hangs, for how long it has."""
        return self.wall - self._since

    @property
    def own(self) -> float:
        """Of the reading, what steps of training took without waiting for other ranks."""
        seconds = self.seconds
        return sum(seconds[part] for part in ("attack", "update", "data_wait", "other"))

    def switch(self, part: str) -> str:
        """Let time count for ``part`` from now on; returns what it has counted for."""
        before, now = self._part, self.wall
        self._seconds[before] += now - self._since
        self._part, self._since = part, now
        if part != before:
            self.watch(part)
            if self._mark and self._laps:
                self._laps.append((part, self._mark()))
        return before

    @contextmanager
    def part(self, part: str) -> Iterator[None]:
        before = self.switch(part)
        try:
            yield
        finally:
            self.switch(before)

    @contextmanager
    def step(self) -> Iterator[None]:
        """A step of training. Where a device works on its own, the block's time is divided as the device divides it.

        Its moments are read one step later, when they have passed: nothing waits for them.
        """
        if self._mark is None:
            yield
            return
        before, self._laps = self.seconds, [(self._part, self._mark())]
        yield
        self.switch(self._part)
        host = {part: self._seconds[part] - before[part] for part in PARTS}
        last, self._last = self._last, (host, [*self._laps, (self._part, self._mark())])
        self._laps = []
        if last:
            self._divide(*last)

    def _divide(self, host: dict[str, float], laps: list[Lap]) -> None:
        device = dict.fromkeys(PARTS, 0.0)
        laps[-1][1].synchronize()
        for (part, begun), (_, ended) in pairwise(laps):
            device[part] += begun.elapsed_time(ended) / 1000
        total, whole = math.fsum(host.values()), math.fsum(device.values())
        for part in PARTS if whole else ():
            self._seconds[part] += total * device[part] / whole - host[part]

    @contextmanager
    def training(self) -> Iterator[None]:
        """Count the time of this block as training too."""
        begun, cpu = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            self.trained += time.perf_counter() - begun
            self.trained_cpu += time.process_time() - cpu

    def stop(self) -> float:
        """Training is over: the clock stands still, if it does not yet; returns its reading."""
        self._stopped = self.seconds
        return math.fsum(self._stopped.values())

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds, "stopped": self._stopped is not None}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint: whatever has happened since then, in this process or not, is lost."""
        self.switch("lost" if self._part == "start" else self._part)
        self._last = None
        self._seconds = dict.fromkeys(PARTS, 0.0) | state.get("seconds", {})
        self._stopped = dict(self._seconds) if state.get("stopped") else None
        self._seconds["lost"] += self._since - math.fsum(self._seconds.values())
