"""Whether a damaged file was read as it should be: a clear error at most, in time, in the memory that it is worth."""

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from fuzzing.target import Target

SECONDS = 10.0
"""Of the processor: the machine may be busy."""
BASE, TIMES = 64 << 20, 20
"""Memory that reading may take: so many bytes, and so many times the file."""


class Wrong(Exception):
    """A file was not read as it should be."""


def judge(target: Target, data: bytes) -> None:
    """Read ``data``; raise Wrong, or what the reader raised, if that is no clear error of one message."""
    before = peak()
    with within(SECONDS):
        try:
            target.read(data)
        except target.clear as error:
            if not str(error).strip():
                raise Wrong("an error without a message") from error
    if (grown := peak() - before) > BASE + TIMES * len(data):
        raise Wrong(f"{len(data)} bytes took {grown} bytes of memory")


def peak() -> int:
    """The most memory that this process has had, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raise Wrong in a block that computes for longer, where Python runs."""

    def late(*_: object) -> None:
        raise Wrong(f"it computes for longer than {seconds} s")

    before = signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
