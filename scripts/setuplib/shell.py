"""Commands whose output goes to .venv/setup.log, and failures that end in one message with a cure."""

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv"
LOG = VENV / "setup.log"
PYTHON = VENV / "bin" / "python"
# -I: a PYTHONPATH set by a cluster's module must not pass for packages of .venv
PIP = [str(PYTHON), "-I", "-m", "pip", "--disable-pip-version-check", "--no-input"]
TAIL = 15
NETWORK = "see that pip reaches its index from here (proxy, 'pip config list'); then scripts/setup again"


class SetupError(Exception):
    """Something is missing or went wrong; the text says what and how to cure it."""


def fail(what: str, cure: str) -> NoReturn:
    """Raise the one message that a user sees."""
    raise SetupError(f"{what}\n  Cure: {cure}")


def say(text: str) -> None:
    """Print a line of progress at once, also into a pipe."""
    print(text, flush=True)


@contextmanager
def timed(text: str) -> Iterator[None]:
    """Say what is being done, then how long it took."""
    say(text)
    start = time.monotonic()
    yield
    say(f"      {time.monotonic() - start:.0f} s")


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The user's environment as `. .venv/bin/activate` makes it, with `extra`."""
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    if Path(env.get("OPAL_PREFIX", "/")).resolve() == VENV.resolve():
        del env["OPAL_PREFIX"]  # .venv's Python has set it (setuplib/mpi.py); another Open MPI would look there, too
    return env | {"PATH": f"{VENV / 'bin'}{os.pathsep}{env.get('PATH', os.defpath)}"} | dict(extra or {})


def output(command: Sequence[str]) -> str:
    """What a command prints, or "" where it cannot be run or fails."""
    try:
        return subprocess.check_output(command, env=environment(), text=True, timeout=60).strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def run(
    command: Sequence[str],
    what: str,
    cure: str,
    *,
    env: Mapping[str, str] | None = None,
    timeout: float | None = None,
) -> str:
    """Run a command, append its output to the log and return it.

    Args:
        command: The command and its arguments.
        what: What it does; a failure's message says that this failed.
        cure: What a user can do about a failure.
        env: Environment variables on top of `environment()`.
        timeout: Seconds after which the command is ended; none by default.
    """
    with LOG.open("ab+") as log:
        log.write(f"+ {shlex.join(command)}\n".encode())
        log.flush()
        start = log.seek(0, os.SEEK_END)
        with subprocess.Popen(
            command, env=environment(env), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        ) as process:
            try:
                end = f"exit status {process.wait(timeout)}"
            except subprocess.TimeoutExpired:
                process.terminate()  # not kill(): a launcher must get the chance to end its ranks
                end = f"no end after {timeout:.0f} s"
        log.seek(start)
        text = log.read().decode(errors="replace")
    if end != "exit status 0":
        tail = "\n".join(f"  | {line}" for line in text.splitlines()[-TAIL:])
        fail(f"{what} failed ({end}); {LOG} ends with\n{tail}", cure)
    return text


def guarded(main: Callable[[], None], name: str) -> NoReturn:
    """Run a script's `main`; an error or Ctrl-C ends in a message, never in a traceback."""
    try:
        main()
    except SetupError as error:
        sys.exit(f"{name}: {error}")
    except KeyboardInterrupt:
        sys.exit(f"\n{name}: interrupted; run scripts/setup again to go on")
    except OSError as error:
        sys.exit(f"{name}: {error}\n  Cure: see that the disk has room and that you may write there")
    sys.exit(0)
