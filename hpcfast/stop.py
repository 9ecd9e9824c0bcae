"""A signal asks the run to stop: it saves a checkpoint first and ends with an exit code that says "start me again".

Slurm sends what ``--signal=USR2@60`` names before the time limit, and SIGTERM when it takes the nodes away. It is
USR2 because NCCL may catch USR1. Handlers only note the signal; the training looks when it suits all ranks.
"""

import signal
import threading
from types import FrameType, TracebackType
from typing import Self

EXIT_STOPPED = 75  # EX_TEMPFAIL of sysexits.h: the same command goes on where this one ended


class Stopped(Exception):
    """The run ended early, as asked, and has a good checkpoint; the command line exits with ``EXIT_STOPPED``."""


_early: list[str] = []


def note_early() -> None:
    """Remember signals that this process was started to ignore, for the StopRequest to come.

    A batch script ignores USR2 and TERM for us until we can handle them, which must not mean that they are lost:
    importing torch takes seconds.
    """
    for number in (signal.SIGTERM, signal.SIGUSR2):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda number, _: _early.append(signal.Signals(number).name))


class StopRequest:
    """Notes SIGTERM, SIGUSR2 and the first Ctrl-C for this block; inert outside the main thread.

    ``requested`` is the name of the first signal, None while there was none. A second Ctrl-C interrupts at once.
    """

    def __init__(self) -> None:
        self.requested: str | None = _early[0] if _early else None
        self._former: dict[int, signal._HANDLER] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT):
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

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        for number in self._former:
            if kind and issubclass(kind, Stopped) and number != signal.SIGINT:
                signal.signal(number, signal.SIG_IGN)  # one that comes now would replace the exit code
            else:
                self._restore(number)
