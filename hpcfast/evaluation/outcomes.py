"""What became of each image: on disk, where an evaluation is to survive a kill, and in numbers and a table."""

import contextlib
import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import Field, TypeAdapter

from hpcfast.attacks import Try
from hpcfast.attacks.norms import Ball
from hpcfast.config import Check, RunConfig
from hpcfast.data import skips
from hpcfast.data.split import Split
from hpcfast.errors import UserError
from hpcfast.evaluation.by_class import by_class
from hpcfast.evaluation.interval import interval
from hpcfast.runs import files

UNKNOWN = -1
NOT_FINITE = -2
"""What a model "takes" an image for whose logits are not all finite numbers."""
NEVER = np.iinfo(np.int64).max


_Number = Annotated[int, Field(ge=0, lt=2**31)]
_Class = Annotated[int, Field(ge=NOT_FINITE, lt=2**31)]


class Round(NamedTuple):
    """One try of an attack, at all images that stood until then; None: a look at the images as they are."""

    name: str
    ball: Ball
    attempt: Try | None


class Record(NamedTuple):
    """What the model takes the images of one batch for, as they are (``clean``) and in one round of attacks."""

    round: _Number
    ids: list[_Number]
    clean: list[_Class]
    predicted: list[_Class]

    @property
    def possible(self) -> bool:
        return len(self.ids) == len(self.clean) == len(self.predicted)


_RECORD = TypeAdapter(Record)


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

    def note(self, records: Iterable[Record]) -> None:
        """Take in what is known of some images."""
        for record in records:
            ids = np.array(record.ids, np.int64)
            if ids.max(initial=0) >= len(self.clean):
                continue  # of a damaged journal
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
        """Ids of the images that could be read."""
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

    def refuse(self) -> None:
        """Raise UserError if logits are not finite, for an image as it is or attacked, or too many images are bad."""
        odd = np.flatnonzero((self.clean == NOT_FINITE) | (self.predicted == NOT_FINITE))
        if len(odd):
            raise UserError(
                f"the model gives logits that are not finite for {len(odd)} images, first "
                f"{skips.name(self.split, odd[0])}: no accuracy would mean anything. Check its weights and its mean "
                f"and std, or measure weights from before training diverged"
            )
        skips.refuse_many(self.split, self.bad, len(self.ids))


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
        files.note_saved()

    def read(self) -> list[Record]:
        """All whole records, of all ranks, in the order of their rounds."""
        records = []
        for file in self._files():
            for line in file.read_text(errors="replace").splitlines():
                with contextlib.suppress(ValueError):  # empty or torn
                    records.append(_RECORD.validate_json(line))
        records = [record for record in records if record.possible]
        return sorted(records, key=lambda record: record.round)

    def remove(self) -> None:
        """Delete all records, of all ranks."""
        for file in self._files():
            file.unlink()

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob("progress-*.jsonl"))


def summarise(outcomes: Outcomes, config: RunConfig, check: Check) -> dict[str, Any]:
    """What was measured, as fractions of the images that could be read.

    Returns:
        ``clean_accuracy``, ``robust_accuracy`` in the threat model's ball, ``n_eval``, ``ci95`` (a Wilson interval
        for each accuracy), ``attack`` (its settings and the threat model), what
        :func:`hpcfast.evaluation.by_class.by_class` returns, ``curve`` (robust accuracy for each radius), ``stages``
        (for each round, how many images it tried and how many it broke) and ``bad_images`` (what is wrong with those
        that could not be read, by name).
    """
    ids, rounds = outcomes.good, outcomes.rounds
    n, labels = len(ids), outcomes.split.labels[ids]
    standing = {  # before the first round of a larger ball, or after the last one
        eps: outcomes.standing(sum(each.ball.eps <= eps for each in rounds))[ids]
        for eps in sorted({each.ball.eps for each in rounds})
    }
    right, robust = outcomes.right[ids], standing[config.threat.eps]
    counts = {"clean_accuracy": right, "robust_accuracy": robust}
    return {
        **{key: float(values.mean()) for key, values in counts.items()},
        "n_eval": n,
        "ci95": {key: interval(int(values.sum()), n) for key, values in counts.items()},
        "attack": {**check.attack.model_dump(), **config.threat.model_dump()},
        # What only fools in a larger ball is not counted here.
        **by_class(
            outcomes.split.classes, labels, outcomes.clean[ids], np.where(robust, labels, outcomes.predicted[ids])
        ),
        "curve": [
            {"eps": eps, "robust_accuracy": float(held.mean()), "ci95": interval(int(held.sum()), n)}
            for eps, held in standing.items()
        ],
        "stages": [
            {
                "name": each.name,
                "eps": each.ball.eps,
                "tried": int(outcomes.standing(number)[ids].sum()),
                "broken": outcomes.broken(number),
            }
            for number, each in enumerate(rounds)
        ],
        "bad_images": {skips.name(outcomes.split, i): reason for i, reason in sorted(outcomes.bad.items())},
    }


def table(outcomes: Outcomes) -> str:
    """Every image's fate, as CSV: its class, what it is taken for, what fooled the model and within which radius."""
    text, split = io.StringIO(), outcomes.split
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("id", "file", "class", "clean", "attacked", "fooled_by", "eps"))
    for i in outcomes.good:
        number = outcomes.fooled[i]
        by = ("", "") if number == NEVER else (outcomes.rounds[number].name, outcomes.rounds[number].ball.eps)
        names = (split.classes[each[i]] for each in (split.labels, outcomes.clean, outcomes.predicted))
        writer.writerow((i, split.files[i], *names, *by))
    return text.getvalue()
