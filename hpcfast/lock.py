"""One process at a time in a folder."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hpcfast.errors import UserError

FILE = ".lock"
"""In the folder; empty, and left there. The lock on it ends with the process that holds it, however that ends."""


@contextmanager
def held(folder: Path, what: str, cure: str, taken: str) -> Iterator[None]:
    """Make ``folder`` and hold it for this block.

    Args:
        what: it is, for the message, e.g. "run directory".
        cure: for a folder that cannot be written.
        taken: what to say if another process holds it.

    Raises:
        UserError: it cannot be written, or another process holds it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / FILE).open("w")
    except OSError as error:
        raise UserError(f"cannot write the {what} {folder} ({error}); {cure}") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{folder} {taken}") from None
        yield
