"""A signal asks a command to stop: it says at once what it will do, does it, and ends with a code that says how.

Slurm sends what ``--signal=USR2@60`` names before the time limit, and SIGTERM when it takes the nodes away. It is
USR2 because NCCL may catch USR1. What can go on later looks for a :class:`StopRequest` when it suits all ranks;
everything else ends where it is (:func:`at_once`).
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Self

from hpcfast.distributed import launcher

EXIT_STOPPED = 75  # EX_TEMPFAIL of sysexits.h: the same command goes on where this one ended
SIGNALS = (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT)
KEPT = "stopped; what is done is kept, and the same command resumes"


class Stopped(Exception):
    """The command ended early, as asked; the same one resumes. The command line exits with ``EXIT_STOPPED``."""


class Interrupted(BaseException):
    """A signal ended the command where it was; no library may take this for an error of its own."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code
        """What the command line exits with: ``EXIT_STOPPED`` if the same command resumes, else as a shell says it."""


_early: list[str] = []
_ends: list[object] = []
"""The handlers of the blocks of :func:`at_once` that we are in."""


def note_early() -> None:
    """Remember signals that this process was started to ignore, for the StopRequest to come.

    A batch script ignores USR2 and TERM for us, so that they don't end us while torch is imported, for seconds.
    """
    for number in (signal.SIGTERM, signal.SIGUSR2):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, _note_early)


def _note_early(number: int, _: FrameType | None) -> None:
    _early.append(signal.Signals(number).name)


class StopRequest:
    """Notes SIGTERM, SIGUSR2 and the first Ctrl-C for this block; inert outside the main thread.

    ``requested`` is the name of the first signal, None while there was none. A second Ctrl-C interrupts at once.
    ``says`` is what rank 0 says at the first signal, at once.
    """

    def __init__(self, says: str = "stopping after this batch; the same command resumes") -> None:
        self.requested: str | None = _early[0] if _early else None
        self._says = says
        self._former: dict[int, signal._HANDLER] = {}
        self._held = ExitStack()

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._held.enter_context(_announced(self._says))
            for number in SIGNALS:
                # Who starts us with nohup or & wants no Ctrl-C; but a batch script ignores USR2 until we can handle it
                if number != signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN:
                    self._former[number] = signal.signal(number, self._note)
        return self

    def _note(self, number: int, _: FrameType | None) -> None:
        self.requested = self.requested or signal.Signals(number).name
        if number == signal.SIGINT:
            self._restore(number)

    def _restore(self, number: int) -> None:
        # None: the handler before was no Python function, and cannot be set again from here
        signal.signal(number, self._former[number] or signal.SIG_DFL)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for number in self._former:
            if kind and issubclass(kind, Stopped) and number != signal.SIGINT:
                signal.signal(number, signal.SIG_IGN)  # one that comes now would replace the exit code
            else:
                self._restore(number)
        self._held.close()


@contextmanager
def at_once(says: str = "stopped; the same command begins anew", resumes: bool = False) -> Iterator[None]:
    """Let the signals of a StopRequest end this block where it is, after rank 0 has said ``says``.

    Signals that are ignored, or handled by something else, stay so; those that :func:`note_early` notes are for blocks
    that resume. Inert outside the main thread.

    Raises:
        Interrupted: a signal came. A rank among others ends its process instead: the others might wait for it. So does
            one that is importing: an exception in the middle of torch's own C++ would abort with a dump of its stack.
    """

    def end(number: int, frame: FrameType | None) -> None:
        for each in (signal.SIGTERM, signal.SIGUSR2):
            signal.signal(each, signal.SIG_IGN)  # one that comes now would replace the exit code
        signal.signal(signal.SIGINT, signal.default_int_handler)
        code = EXIT_STOPPED if resumes else 128 + number
        if launcher.rank() is not None or _importing(frame):
            held.close()
            os._exit(code)
        raise Interrupted(code)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ours = {signal.SIG_DFL, signal.default_int_handler, *_ends, *([_note_early] if resumes else [])}
    former = {number: handler for number in SIGNALS if (handler := signal.getsignal(number)) in ours}
    _ends.append(end)
    with ExitStack() as held:
        held.enter_context(_announced(says))
        for number in former:
            signal.signal(number, end)
        try:
            if resumes and _early:
                os.kill(os.getpid(), signal.Signals[_early[0]])
            yield
        finally:
            _ends.remove(end)
            for number, handler in former.items():
                if signal.getsignal(number) is end:
                    signal.signal(number, handler)


def _importing(frame: FrameType | None) -> bool:
    while frame and frame.f_code.co_filename != "<frozen importlib._bootstrap>":
        frame = frame.f_back
    return frame is not None


@contextmanager
def _announced(says: str) -> Iterator[None]:
    """Have rank 0 say so when a signal comes, also while its main thread waits in a library and runs no Python."""
    if launcher.rank():
        yield
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    former = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    thread = threading.Thread(target=_announce, args=(reader, says), daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(former)
        os.close(writer)
        thread.join()
        os.close(reader)


def _announce(reader: int, says: str) -> None:
    said = False
    while numbers := os.read(reader, 64):
        for number in numbers:
            if number in SIGNALS and not said:
                said = True
                with contextlib.suppress(OSError):  # nobody may be listening any more
                    os.write(2, f"{signal.Signals(number).name}: {says}\n".encode())
