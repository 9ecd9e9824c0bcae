"""The checkpoints of a run as all its ranks see them: rank 0 reads and writes, the others wait for its word."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Self, TypeVar

from hpcfast.config import CheckpointSettings
from hpcfast.distributed import comm
from hpcfast.errors import UserError
from hpcfast.training import checkpoint
from hpcfast.training.checkpoint import State

T = TypeVar("T")


class Store:
    """Every method but ``due`` is a collective.

    ``asynchronous`` checkpoints are written in a thread: the next call raises its errors, the end of a block waits.
    """

    def __init__(self, folder: Path, settings: CheckpointSettings, say: Callable[[str], None]) -> None:
        self._folder, self._settings, self._say = folder, settings, say
        self._thread = ThreadPoolExecutor(1) if settings.asynchronous else None
        self._pending: Future[None] | None = None
        self._saved = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether it is time for one, by this rank's clock."""
        return 0 < 60 * self._settings.minutes < time.monotonic() - self._saved

    def load_last(self) -> tuple[State | None, bool]:
        """The last checkpoint, or an older one where that is damaged; and whether it passed its epoch's checks."""
        return self._on_root(lambda folder: (checkpoint.load_last(folder, self._say), checkpoint.is_healthy(folder)))

    def load_healthy(self) -> State:
        """The newest checkpoint that passed its epoch's checks."""
        state = self._on_root(checkpoint.load_healthy)
        if state is None:  # a run saves its first before it trains
            raise UserError(f"{self._folder} has lost its first checkpoint; start over with --overwrite")
        return state

    def save(self, step: int, state: Callable[[], State]) -> None:
        """Save what ``state`` returns on rank 0; then its tensors may change.

        Raises:
            UserError: on all ranks: the disk is full, or ``state`` raised it.
        """

        def write(folder: Path) -> None:
            arguments = folder, step, checkpoint.serialise(state()), self._settings.keep
            if self._thread:
                self._pending = self._thread.submit(checkpoint.write, *arguments)
            else:
                checkpoint.write(*arguments)

        self._on_root(write)
        self._saved = time.monotonic()

    def mark_healthy(self) -> None:
        """Note that the last checkpoint has passed its epoch's checks: the one to go back to."""
        self._on_root(checkpoint.mark_healthy)

    def wait(self) -> None:
        """Return when all is on disk; a full disk ends all ranks."""
        self._on_root(lambda folder: None)

    def _on_root(self, work: Callable[[Path], T]) -> T:
        """What ``work`` returns on rank 0, after the write in flight: two would take the memory of two."""

        def wait_and_work() -> T:
            self._finish()
            return work(self._folder)

        return comm.on_root(wait_and_work)

    def _finish(self) -> None:
        pending, self._pending = self._pending, None
        if pending:
            pending.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._finish()  # its error comes before one of the block: "stopped, with a good checkpoint" would be a lie
