"""Work in processes of their own, for what holds Python's lock; they end with their parent, whatever ends it."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


@contextmanager
def pool(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """A process a core, but no more than ``jobs``; on leaving, jobs not begun are dropped."""
    workers = max(1, min(len(os.sched_getaffinity(0)), jobs))
    # Not forked: the bar on a terminal has a thread, whose locks a fork would copy.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_follow_the_parent) as executor:
        try:
            yield executor
        finally:
            executor.shutdown(cancel_futures=True)


def work_on(jobs: Collection[T], work: Callable[[T], object], chunk: int, progress: Callable[[int], None]) -> None:
    """Have processes do ``work`` on each of ``jobs``, ``chunk`` of them in one go; show how many are done."""
    with pool(len(jobs)) as executor:
        for done, _ in enumerate(executor.map(work, jobs, chunksize=chunk), 1):
            progress(done)


def _follow_the_parent() -> None:
    """Leave Ctrl-C to the parent, and don't outlive it: a worker whose parent was killed waits for work permanently."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent:
            parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
