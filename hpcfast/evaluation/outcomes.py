"""What became of each image; on disk too, where an evaluation is to survive a kill."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

UNKNOWN = -1
NOT_FINITE = -2
"""What a model "takes" an image for whose logits are not all finite numbers."""
NEVER = np.iinfo(np.int64).max


class Record(NamedTuple):
    """What one round of attacks did to the images of one batch."""

    round: int
    ids: list[int]
    clean: list[int]
    """What the model takes each image for as it is."""
    predicted: list[int]
    """What it takes it for under attack."""


class Outcomes:
    """Of every image of a split: what it is taken for, and which round of attacks, from 0, fooled the model."""

    def __init__(self, labels: np.ndarray) -> None:
        self.labels = labels
        self.clean = np.full(len(labels), UNKNOWN)
        self.predicted = np.full(len(labels), UNKNOWN)
        self.fooled = np.full(len(labels), NEVER)
        """The round, ``NEVER`` for none; of an image that is misclassified as it is, none was needed."""
        self.bad: dict[int, str] = {}
        """What is wrong with images that could not be read, by id; nothing else is known of them."""
        self._rounds = np.zeros(len(labels), np.int64)

    def note(self, record: Record) -> None:
        """Take in what is known of some images."""
        ids = np.array(record.ids, np.int64)
        self.clean[ids], self.predicted[ids] = record.clean, record.predicted
        self._rounds[ids] = record.round + 1
        right = self.clean[ids] == self.labels[ids]
        self.fooled[ids[right & (self.predicted[ids] != self.labels[ids])]] = record.round

    def entering(self, ids: np.ndarray, number: int) -> np.ndarray:
        """Which of ``ids`` round ``number`` is to attack, or has attacked: all that stood until then."""
        if number == 0:
            return ids
        return ids[(self.clean[ids] == self.labels[ids]) & (self.fooled[ids] >= number)]

    def good(self, ids: np.ndarray) -> np.ndarray:
        """Those of ``ids`` that could be read."""
        return ids[~np.isin(ids, [*self.bad])]

    def not_finite(self) -> np.ndarray:
        """Ids of the images for which the model gave logits that are not finite, as they are or attacked."""
        return ((self.clean == NOT_FINITE) | (self.predicted == NOT_FINITE)).nonzero()[0]

    def through(self, number: int) -> np.ndarray:
        """Whether each image of the split has been through round ``number``; bool, (images,)."""
        return self._rounds > number


class Journal:
    """Records on disk, a file a rank: a line is written as soon as its batch is done.

    Any number of ranks may read what any other number wrote. A kill tears at most the last line of each file.
    """

    def __init__(self, folder: Path, rank: int) -> None:
        self._folder, self._file = folder, folder / f"progress-{rank}.jsonl"

    def write(self, record: Record) -> None:
        """Append ``record``; it is with the operating system when this returns."""
        with self._file.open("ab", buffering=0) as file:
            # The newline comes first: the line before may be torn.
            file.write(b"\n" + json.dumps(record).encode())

    def read(self) -> list[Record]:
        """All whole records, of all ranks, in the order of their rounds."""
        lines = [line for file in self._files() for line in file.read_text(errors="replace").splitlines()]
        return sorted((record for record in map(_parsed, lines) if record), key=lambda record: record.round)

    def remove(self) -> None:
        """Delete all records, of all ranks."""
        for file in self._files():
            file.unlink()

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob("progress-*.jsonl"))


def _parsed(line: str) -> Record | None:
    """The record of a line; None for one that is empty or torn."""
    try:
        return Record(*json.loads(line))
    except (ValueError, TypeError):
        return None
