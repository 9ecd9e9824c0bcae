"""The checkpoints of a run as all its ranks see them: rank 0 reads and writes, the others wait for its word."""

import time
from collections.abc import Callable
from pathlib import Path

from hpcfast.config import CheckpointSettings
from hpcfast.distributed import comm
from hpcfast.errors import UserError
from hpcfast.training import checkpoint
from hpcfast.training.checkpoint import State, Writer


class Store:
    """Every method but ``due`` is a collective."""

    def __init__(self, folder: Path, writer: Writer, settings: CheckpointSettings, say: Callable[[str], None]) -> None:
        self._folder, self._writer, self._settings, self._say = folder, writer, settings, say
        self._saved = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether it is time for one, by this rank's clock."""
        return 0 < 60 * self._settings.minutes < time.monotonic() - self._saved

    def load_last(self) -> tuple[State | None, bool]:
        """The last checkpoint, or an older one where that is damaged; and whether it passed its epoch's checks."""
        return comm.on_root(
            lambda: (checkpoint.load_last(self._folder, self._say), checkpoint.is_healthy(self._folder))
        )

    def load_healthy(self) -> State:
        """The newest checkpoint that passed its epoch's checks."""

        def load() -> State:
            self._writer.wait()
            state = checkpoint.load_healthy(self._folder)
            if state is None:  # a run saves its first before it trains
                raise UserError(f"{self._folder} has lost its first checkpoint; start over with --overwrite")
            return state

        return comm.on_root(load)

    def save(self, step: int, state: Callable[[], State]) -> None:
        """Save what ``state`` returns on rank 0.

        Raises:
            UserError: on all ranks: the disk is full, or ``state`` raised it.
        """
        comm.on_root(lambda: self._writer.save(self._folder, step, state(), self._settings.keep))
        self._saved = time.monotonic()

    def mark_healthy(self) -> None:
        """Note that the last checkpoint has passed its epoch's checks: the one to go back to."""
        comm.on_root(lambda: self._writer.mark_healthy(self._folder))

    def wait(self) -> None:
        """Return when all is on disk; a full disk ends all ranks."""
        comm.on_root(self._writer.wait)
