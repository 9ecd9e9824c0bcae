"""Encoded images, read ahead by threads: a parallel file system is slow at one request and good at many at a time.

They are checked as they are read (:mod:`hpcfast.data.images`), so that DALI meets no header that it cannot parse.
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Generic, TypeVar

import numpy as np

from hpcfast.data.images import ImageError, ready
from hpcfast.data.split import Split
from hpcfast.errors import UserError

READERS = 8
"""Threads, which do nothing but wait for the file system."""
AHEAD = 3
"""Batches that are read before they are asked for; DALI holds two more. What bounds a rank's memory."""
CHUNK = 16
"""Images that a thread reads in one go: handing over each by itself would cost as much as reading it."""

T = TypeVar("T")
Image = np.ndarray | str
"""What DALI is to decode, uint8, or why there is nothing."""


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


class Feed:
    """Iterates over batches of encoded images, in the order of ``ids``; the last may be smaller.

    Ends before the first batch that holds an image which cannot be read; ``faults`` then says why. Use it in a
    ``with`` block, which ends the threads.
    """

    def __init__(self, split: Split, ids: np.ndarray, batch_size: int) -> None:
        self.faults: dict[int, str] = {}
        """What is wrong with each bad image of the batch that was not given out, by the image's id."""
        self._split = split
        self._batches = iter([ids[start : start + batch_size] for start in range(0, len(ids), batch_size)])
        self._reading: deque[tuple[np.ndarray, list[Future[list[Image]]]]] = deque()
        self._pool = ThreadPoolExecutor(READERS, "hpcfast-read")

    def __enter__(self) -> "Feed":
        return self

    def __exit__(self, *raised: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def __iter__(self) -> Iterator[list[np.ndarray]]:
        return self

    def __next__(self) -> list[np.ndarray]:
        while len(self._reading) <= AHEAD and (ids := next(self._batches, None)) is not None:
            chunks = [ids[start : start + CHUNK] for start in range(0, len(ids), CHUNK)]
            self._reading.append((ids, [self._pool.submit(self._read, chunk.tolist()) for chunk in chunks]))
        if self.faults or not self._reading:
            raise StopIteration
        ids, parts = self._reading.popleft()
        images = [image for part in parts for image in part.result()]
        self.faults = {i: image for i, image in zip(ids.tolist(), images, strict=True) if isinstance(image, str)}
        if self.faults:
            raise StopIteration
        return images  # type: ignore[return-value]  # no fault: no str

    def _read(self, ids: list[int]) -> list[Image]:
        return [attempt(self._split, i) for i in ids]


def attempt(split: Split, image: int) -> Image:
    """What DALI is to decode of one image of ``split``, or why there is nothing."""
    try:
        encoded = split.encoded(image)
        return ready(encoded) if len(encoded) else "is empty"
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
