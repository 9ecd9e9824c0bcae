"""This rank's watchdog, and what it is told: what the rank is doing, and where it waits for others."""

import atexit
import contextlib
import faulthandler
import os
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, TextIO

from hpcfast.distributed.heartbeat import Address
from hpcfast.distributed.watchdog import Watchdog

EXIT_LOST = 76
"""What a rank ends with because another has failed or fallen silent: its own node is not to blame."""
PATIENCE = 10.0
"""Seconds for a stack trace to be written."""

_watchdog: Watchdog | None = None
_traces: Path | None = None
_last_words: Callable[[], object] | None = None


def watch(rank: int, size: int, here: str, on_root: Callable[[Callable[[], Any]], Any]) -> None:
    """Have a rank that falls silent named, and the job ended: Horovod and MPI would wait for it permanently.

    Args:
        rank: this one.
        size: how many there are.
        here: the address at which this rank listens; empty for all that the machine has.
        on_root: runs a function on rank 0 and returns its result on every rank.
    """
    global _watchdog
    watchdog = _watchdog = Watchdog(rank, size, here, end)
    watchdog.start(Address(*on_root(lambda: tuple(watchdog.listen()))))
    atexit.register(watchdog.stop)


def set_status(step: int, note: str) -> None:
    """Say what this rank is doing, for the message that names a lost rank."""
    if _watchdog:
        _watchdog.step, _watchdog.note = step, note


def leave_traces(folder: Path) -> None:
    """If the job is ended because a rank has fallen silent, write into ``folder`` where this rank is."""
    global _traces
    _traces = folder
    if _watchdog:
        _watchdog.advice = f"; where its ranks were is in {folder}"


def tell_before_end(last_words: Callable[[], object]) -> None:
    """If the job is ended because a rank has fallen silent, call ``last_words`` first."""
    global _last_words
    _last_words = last_words


def end() -> None:
    """End this process; where its threads are goes into the folder for that, if there is one."""
    writer = threading.Thread(target=_leave_trace, daemon=True)
    writer.start()
    writer.join(PATIENCE)  # what is gone may be the network that the folder is behind
    os._exit(EXIT_LOST)


def _leave_trace() -> None:
    if _last_words:
        _last_words()
    with contextlib.suppress(OSError), contextlib.ExitStack() as closing:  # the disk may be what is gone
        file: TextIO = sys.stderr
        if _traces and _watchdog:
            _traces.mkdir(exist_ok=True)
            file = closing.enter_context((_traces / f"rank-{_watchdog.rank:05d}.txt").open("w"))
        faulthandler.dump_traceback(file)


def waiting(collective: str) -> AbstractContextManager[None]:
    """A block in which this rank waits for others, in ``collective``."""
    return _watchdog.waiting(collective) if _watchdog else nullcontext()


def peers() -> str:
    """When the other ranks were last heard from, the longest silent first, as far as this rank knows."""
    return _watchdog.table() if _watchdog else ""
