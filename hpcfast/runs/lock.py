"""One process at a time in a folder, also where the file system has no locks.

Lustre without ``-o flock`` and NFS without lockd have none. There each process leaves a file that says who it is, and
looks for others' files after that, so that of two at least one sees the other.
"""

import errno
import fcntl
import json
import os
import platform
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TextIO

from hpcfast.errors import UserError
from hpcfast.runs.files import PART, save_text
from hpcfast.runs.reading import read_json

FILE = ".lock"
"""In the folder; empty, and left there. The lock on it ends with the process that holds it, however that ends.
Names of all files of the lock begin so."""
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


@contextmanager
def held(folder: Path, what: str, cure: str, taken: str) -> Iterator[None]:
    """Make ``folder`` and hold it for this block; a UserError if it cannot be written, or is or may be held already.

    Args:
        what: it is, for the message, e.g. "run directory".
        cure: for a folder that cannot be written.
        taken: what to say if another process holds it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / FILE).open("w")
    except OSError as error:
        raise UserError(f"cannot write the {what} {folder} ({error}); {cure}") from None
    with lock:
        try:
            mine = None if locked(lock) else _claim(folder, taken)
        except BlockingIOError:
            raise UserError(f"{folder} {taken}") from None
        except OSError as error:
            raise UserError(f"cannot lock the {what} {folder} ({error}); {cure}") from None
        try:
            yield
        finally:
            if mine:
                mine.unlink(missing_ok=True)


def locked(file: TextIO) -> bool:
    """Lock ``file``; False where its file system has no locks. A BlockingIOError: another process has locked it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return False
        raise
    return True


class _Holder(NamedTuple):
    """A process that says it holds a folder."""

    pid: int
    host: str
    namespace: str
    """Of its number: a container has its own."""
    job: str
    """Slurm's number, "" outside Slurm."""
    start: int
    """How often the job was requeued before."""

    @classmethod
    def here(cls) -> "_Holder":
        job, start = os.environ.get("SLURM_JOB_ID", ""), int(os.environ.get("SLURM_RESTART_COUNT", "0"))
        return cls(os.getpid(), platform.node(), str(Path("/proc/self/ns/pid").readlink()), job, start)

    def lives(self) -> bool | None:
        """Whether it does; None where that cannot be known from here."""
        here = _Holder.here()
        if (self.host, self.namespace) == (here.host, here.namespace):
            return Path(f"/proc/{self.pid}").exists()
        if self.job and self.job == here.job and self.start < here.start:
            return False  # Slurm ends all of a job before it starts it again
        return None

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}" + (f" (Slurm job {self.job})" if self.job else "")


def _claim(folder: Path, taken: str) -> Path:
    """Leave a file that says who we are, unless another process has; returns it."""
    mine = folder / f"{FILE}-{secrets.token_hex(4)}"
    save_text(mine, json.dumps(_Holder.here()._asdict()))
    try:
        for other in folder.glob(f"{FILE}-*"):
            if other != mine and not other.name.endswith(PART):
                _refuse_living(folder, other, taken)
    except BaseException:
        mine.unlink(missing_ok=True)
        raise
    return mine


def _refuse_living(folder: Path, file: Path, taken: str) -> None:
    """Remove what a process has left that is gone."""
    holder = lives = None
    try:
        holder = _Holder(**read_json(file))
        lives = holder.lives()
    except FileNotFoundError:
        return  # it has just ended
    except (ValueError, TypeError):
        pass  # the file does not say whose it is
    if lives:
        raise UserError(f"{folder} {taken} ({holder})")
    if lives is None:
        raise UserError(
            f"{folder} {taken}; or, if {holder or 'the process that left it'} has ended, remove {file}. The file "
            f"system there has no locks, so nobody can tell from here; mounted with locks (-o flock for Lustre, lockd "
            f"for NFS) it can."
        )
    file.unlink(missing_ok=True)
