"""Torch's and Horovod's own instruments: moments on a GPU's clock, and traces of a few steps (docs/timeline.md)."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from hpcfast.distributed import comm
from hpcfast.errors import UserError
from hpcfast.runs.clock import Clock

SKIPPED = 5
"""Steps of this process before the trace: the first ones prepare."""
TRACED = 5


def device_event() -> torch.cuda.Event:
    """The moment at which the GPU gets to what it is told next."""
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


class Profile:
    """Traces ``TRACED`` steps on every rank, by torch's profiler and Horovod's timeline.

    Writes ``rank-0000.json`` … (Chrome's trace format; the parts of the clock are ranges) and ``horovod.json``.
    """

    def __init__(self, folder: Path, world: comm.World, clock: Clock) -> None:
        """A collective; a UserError on all ranks where the folder cannot be written or is not empty."""
        self._folder, self._clock = folder, clock
        self._own = folder / f"rank-{world.rank:04d}.json"
        self._steps = 0
        self._running: Any = None
        self._range = ExitStack()
        comm.on_root(self._claim)

    def _claim(self) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"--profile: cannot write {self._folder} ({error}); give another folder") from None
        if any(self._folder.iterdir()):
            raise UserError(f"--profile: {self._folder} is not empty; give another folder, or empty it")

    def step(self) -> None:
        """A step of training is done, on all ranks."""
        self._steps += 1
        if self._steps == SKIPPED:
            comm.engine().start_timeline(str(self._folder / "horovod.json"))
            activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
            self._running = profile(activities=activities)
            self._running.start()
            self._clock.watch = self._turn
        elif self._steps == SKIPPED + TRACED:
            self.close()

    def _turn(self, part: str) -> None:
        """Name what comes after the clock's part."""
        self._range.close()
        self._range.enter_context(record_function(part))

    def close(self) -> None:
        """Write what was traced, if it is not yet written; a collective."""
        if self._running is None:
            return
        self._clock.watch = lambda part: None
        self._range.close()
        self._running.stop()
        comm.engine().stop_timeline()
        try:
            self._running.export_chrome_trace(str(self._own))
        except (OSError, RuntimeError) as error:
            raise UserError(f"--profile: cannot write {self._own} ({error})") from None
        finally:
            self._running = None
