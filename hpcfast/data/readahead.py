"""Images, read ahead by threads: a parallel file system is slow at one request and good at many at a time."""

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Generic, TypeVar

import numpy as np

from hpcfast.data.images import ImageError
from hpcfast.data.split import Split
from hpcfast.errors import UserError

READERS = 8
"""Threads, which do nothing but wait for the file system."""
AHEAD = 3
"""Batches that are read before they are asked for; DALI holds two more. What bounds a rank's memory."""
CHUNK = 16
"""Images that a thread reads in one go: handing over each by itself would cost as much as reading it."""

T = TypeVar("T")


class BadImages(UserError):
    """Images that cannot be read or decoded, of the batch that comes next.

    Training and evaluation leave them out and continue; whoever needs just these images ends with the message.
    """

    def __init__(self, split: Split, faults: dict[int, str]) -> None:
        self.faults = faults
        """What is wrong with each image, by its id."""
        first = next(iter(faults))
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        super().__init__(
            f"{split.files[first]}{more} {faults[first]}. Find all such files with 'hpcfast data verify', which lists "
            f"them in skips.txt, and run again; or put whole images there."
        )


def read_ahead(
    read: Callable[[int], T | str], batches: Sequence[np.ndarray], faults: dict[int, str], threads: int = READERS
) -> Generator[list[T], None, None]:
    """What ``read`` makes of each image of ``batches`` of ids. Closing it ends the threads.

    Ends before the first batch that holds an image which cannot be read; ``faults`` then says why, by its id.

    Args:
        read: returns a str, the reason, where an image cannot be read; it runs in several threads at once.
    """
    waiting = iter(batches)
    reading: deque[tuple[np.ndarray, list[Future[list[T | str]]]]] = deque()
    pool = ThreadPoolExecutor(threads, "hpcfast-read")

    def read_chunk(chunk: np.ndarray) -> list[T | str]:
        return [read(i) for i in chunk.tolist()]

    try:
        while True:
            for batch in islice(waiting, AHEAD + 1 - len(reading)):
                chunks = [batch[start : start + CHUNK] for start in range(0, len(batch), CHUNK)]
                reading.append((batch, [pool.submit(read_chunk, chunk) for chunk in chunks]))
            if not reading:
                return
            batch, parts = reading.popleft()
            images = [image for part in parts for image in part.result()]
            faults.update({i: image for i, image in zip(batch.tolist(), images, strict=True) if isinstance(image, str)})
            if faults:
                return
            yield images  # type: ignore[misc]  # no fault: no str
    finally:
        pool.shutdown(cancel_futures=True)


def divided(ids: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """``ids`` in batches, of which the last may be smaller."""
    return [ids[start : start + batch_size] for start in range(0, len(ids), batch_size)]


def attempt(split: Split, image: int, make: Callable[[np.ndarray], T]) -> T | str:
    """What ``make`` makes of the bytes of an image of ``split``, or why there is nothing."""
    try:
        encoded = split.encoded(image)
        return make(encoded) if len(encoded) else "is empty"
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    except ImageError as error:
        return f"cannot be decoded: {error}"


class Prefetcher(Generic[T]):
    """Batches, of which two are looked at before they are needed, so that bad images are known before their turn."""

    def __init__(self, batches: Iterator[T]) -> None:
        self.faults: dict[int, str] = {}
        """What is wrong with the bad images of the batch after the last that ``take`` will give, by id."""
        self._batches = batches
        self._hand: deque[T] = deque()
        self.peek()
        self.peek()

    def peek(self) -> bool:
        """Look at one batch more; whether a bad one lies ahead."""
        if not self.faults:
            try:
                self._hand.extend(islice(self._batches, 1))
            except BadImages as bad:
                self.faults = bad.faults
        return bool(self.faults)

    def take(self) -> T | None:
        """The next batch; None after the last good one."""
        return self._hand.popleft() if self._hand else None
