"""What became of each image; on disk too, where an evaluation is to survive a kill."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hpcfast.attacks import Try
from hpcfast.attacks.norms import Ball
from hpcfast.data.split import Split

UNKNOWN = -1
NOT_FINITE = -2
"""What a model "takes" an image for whose logits are not all finite numbers."""
NEVER = np.iinfo(np.int64).max


class Round(NamedTuple):
    """One try of an attack, at all images that stood until then; None: a look at the images as they are."""

    name: str
    ball: Ball
    attempt: Try | None


class Record(NamedTuple):
    """What one round of attacks did to the images of one batch."""

    round: int
    ids: list[int]
    clean: list[int]
    """What the model takes each image for as it is."""
    predicted: list[int]
    """What it takes it for under attack."""


class Outcomes:
    """What the images ``ids`` of a split are taken for, and which of the ``rounds``, from 0, fooled the model."""

    def __init__(self, split: Split, ids: np.ndarray, rounds: Sequence[Round]) -> None:
        self.split, self.ids, self.rounds = split, ids, rounds
        # Of every image of the split:
        self.clean = np.full(len(split), UNKNOWN)
        self.predicted = np.full(len(split), UNKNOWN)
        self.fooled = np.full(len(split), NEVER)
        """The round, ``NEVER`` for none; of an image that is misclassified as it is, none was needed."""
        self.bad: dict[int, str] = {}
        """What is wrong with images that could not be read, by id; nothing else is known of them."""
        self._rounds_done = np.zeros(len(split), np.int64)

    def note(self, record: Record) -> None:
        """Take in what is known of some images."""
        ids = np.array(record.ids, np.int64)
        self.clean[ids], self.predicted[ids] = record.clean, record.predicted
        self._rounds_done[ids] = record.round + 1
        fell = ids[self.right[ids] & (self.predicted[ids] != self.split.labels[ids])]
        self.fooled[fell] = record.round

    @property
    def right(self) -> np.ndarray:
        """Whether each image of the split is classified rightly as it is; bool."""
        return self.clean == self.split.labels

    @property
    def good(self) -> np.ndarray:
        """The ids of the images that could be read."""
        return self.ids[~np.isin(self.ids, [*self.bad])]

    def standing(self, number: int) -> np.ndarray:
        """Whether each image of the split is classified rightly as it is and in the rounds before ``number``; bool."""
        return self.right & (self.fooled >= number)

    def entering(self, number: int) -> np.ndarray:
        """Ids of the images that round ``number`` is to attack, or has attacked: all that stood until then."""
        return self.ids[self.standing(number)[self.ids]] if number else self.ids

    def left(self, number: int) -> np.ndarray:
        """Ids of the images that round ``number`` has still to attack."""
        ids = self.entering(number)
        return ids[self._rounds_done[ids] <= number]

    def broken(self, number: int) -> int:
        """How many images round ``number`` fooled the model with."""
        return int((self.fooled[self.good] == number).sum())

    def not_finite(self) -> np.ndarray:
        """Ids of the images for which the model gave logits that are not finite, as they are or attacked."""
        return ((self.clean == NOT_FINITE) | (self.predicted == NOT_FINITE)).nonzero()[0]


class Journal:
    """Records on disk, a file a rank: a line is written as soon as its batch is done.

    Any number of ranks may read what any other number wrote. A kill tears at most the last line of each file.
    """

    def __init__(self, folder: Path, rank: int) -> None:
        self._folder, self._file = folder, folder / f"progress-{rank}.jsonl"

    def write(self, record: Record) -> None:
        """Append ``record``; it is with the operating system when this returns."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._file.open("ab", buffering=0) as file:
            # The newline comes first: the line before may be torn.
            file.write(b"\n" + json.dumps(record).encode())

    def read(self) -> list[Record]:
        """All whole records, of all ranks, in the order of their rounds."""
        records = []
        for line in (line for file in self._files() for line in file.read_text(errors="replace").splitlines()):
            try:
                records.append(Record(*json.loads(line)))
            except (ValueError, TypeError):  # empty or torn
                continue
        return sorted(records, key=lambda record: record.round)

    def remove(self) -> None:
        """Delete all records, of all ranks."""
        for file in self._files():
            file.unlink()

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob("progress-*.jsonl"))
