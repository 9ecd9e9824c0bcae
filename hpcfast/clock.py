"""The run's clocks, in seconds: one never pauses, the other counts training alone.

The wall clock starts when the run is first started and goes on through evaluations, checkpoints, interruptions
and lost work. Both are part of the checkpoint.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Wall time since ``started`` (seconds since 1970), and time spent in ``training()`` blocks."""

    def __init__(self, started: float | None = None, trained: float = 0.0) -> None:
        self.started = time.time() if started is None else started
        self.trained = trained

    @property
    def wall(self) -> float:
        return time.time() - self.started

    @contextmanager
    def training(self) -> Iterator[None]:
        """Count the time of this block as training."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.trained += time.perf_counter() - begun
