"""The run's clocks, in seconds: one never pauses, one counts training alone, one what of it is waiting for images.

The wall clock starts when the run is first started and goes on through evaluations, checkpoints, interruptions
and lost work. All are part of the checkpoint.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Wall time since ``started`` (seconds since 1970), and time spent in ``training()`` blocks: wall and CPU.

    CPU time is that of all threads of this process. ``waited`` is time spent in ``waiting()`` blocks.
    """

    def __init__(self, started: float | None = None) -> None:
        self.started = time.time() if started is None else started
        self.trained = self.trained_cpu = self.waited = 0.0

    @property
    def wall(self) -> float:
        return time.time() - self.started

    @contextmanager
    def training(self) -> Iterator[None]:
        """Count the time of this block as training."""
        begun, cpu = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            self.trained += time.perf_counter() - begun
            self.trained_cpu += time.process_time() - cpu

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time of this block as waiting for images."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.waited += time.perf_counter() - begun
