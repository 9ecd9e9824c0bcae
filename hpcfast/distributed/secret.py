"""What only a user's own processes know, so that nobody else's takes part in a job."""

import contextlib
import hmac
import os
import secrets
import stat
import tempfile
from pathlib import Path

from hpcfast.errors import UserError

VARIABLE = "HPCFAST_SECRET"
LEAST = 16
"""Characters that cannot be guessed."""
SIGNATURE = 32
"""Bytes of one."""


def secret() -> bytes:
    """The job's secret from the environment, or the user's own from a file of the home folder, made at first use.

    A job is given one by its batch script (:mod:`hpcfast.cluster.job`), and by nobody where ``srun hpcfast`` is called.

    Raises:
        UserError: it is short, others can read the file, or the file cannot be written.
    """
    if given := os.environ.get(VARIABLE):
        if len(given) < LEAST:
            raise UserError(f"{VARIABLE} has {len(given)} characters, which can be guessed; give it {LEAST} at least")
        return given.encode()
    path = _path()
    try:
        if not path.exists():
            _make(path)
        about, found = path.stat(), path.read_bytes()
    except OSError as error:
        raise UserError(
            f"{path}, by which the ranks of a job know one another, cannot be written or read ({error.strerror}); "
            f"set {VARIABLE} to the same secret on all ranks, such as $(openssl rand -hex 16)"
        ) from None
    if about.st_uid != os.geteuid() or stat.S_IMODE(about.st_mode) & 0o077 or len(found) < LEAST:
        raise UserError(f"{path} is no secret of yours: others can read or have written it; remove it")
    return found


def sign(key: bytes, text: bytes) -> bytes:
    """HMAC-SHA256, which only who knows ``key`` can tell."""
    return hmac.digest(key, text, "sha256")


def _path() -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "hpcfast" / "secret"


def _make(path: Path) -> None:
    """Write the file; of several ranks that do, on several nodes, the first one's stays."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent) as file:  # only its owner can read it
        file.write(secrets.token_hex(LEAST).encode())
        file.flush()
        with contextlib.suppress(FileExistsError):
            os.link(file.name, path)
