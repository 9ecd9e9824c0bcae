"""torch's store over the signed table: where its Gloo and NCCL leave their addresses for one another."""

import time
from collections.abc import Sequence
from datetime import timedelta

from torch.distributed import Store  # type: ignore[attr-defined]

from hpcfast.distributed.table import Client, Server

PATIENCE = timedelta(seconds=120)
"""For an entry that another rank is to make."""
PAUSE = 0.01
"""Seconds between the first looks for it."""


class TableStore(Store):
    """What torch.distributed asks of a store."""

    def __init__(self, client: Client, server: Server) -> None:
        super().__init__()
        self._client, self._server = client, server

    def _ask(self, method: str, key: str, value: bytes = b"") -> bytes | None:
        found: bytes | None = self._server.run(self._client.ask(method, key, value))
        return found

    def set(self, key: str, value: str | bytes) -> None:
        """Make or replace an entry."""
        self._ask("PUT", key, value.encode() if isinstance(value, str) else bytes(value))

    def get(self, key: str) -> bytes:
        """An entry, as soon as it is there.

        Raises:
            TimeoutError: it does not come.
        """
        deadline, pause = time.monotonic() + PATIENCE.total_seconds(), PAUSE
        while (found := self._ask("GET", key)) is None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"no rank has left {key} in the table within {PATIENCE.total_seconds():.0f} s")
            time.sleep(pause)
            pause = min(2 * pause, 0.5)
        return found

    def wait(self, keys: Sequence[str], timeout: timedelta = PATIENCE) -> None:
        """Wait until all are there."""
        for key in keys:
            self.get(key)

    def add(self, key: str, amount: int) -> int:
        """Add to a number, 0 at first; the sum."""
        return int(self._ask("ADD", key, str(amount).encode()) or 0)

    def check(self, keys: Sequence[str]) -> bool:
        """Whether all are there."""
        return all(self._ask("GET", key) is not None for key in keys)

    def delete_key(self, key: str) -> bool:
        """Remove an entry; whether there was one."""
        return self._ask("DELETE", key) is not None
