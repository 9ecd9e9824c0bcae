"""Work in processes of their own, for what holds Python's lock; they end with their parent, whatever ends it."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager


@contextmanager
def pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """So many processes; on leaving, those tasks that have not begun are dropped."""
    # Not forked: the bar on a terminal has a thread, whose locks a fork would copy.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_follow_the_parent) as executor:
        try:
            yield executor
        finally:
            executor.shutdown(cancel_futures=True)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def _follow_the_parent() -> None:
    """Leave Ctrl-C to the parent, and don't outlive it: a worker whose parent was killed waits for work for ever."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent:
            parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
