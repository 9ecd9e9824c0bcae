"""Images of one's own: folders of classes, divided or not into train and val, or a table of labels."""

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import chain, count
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, NonNegativeInt

from hpcfast.data.folder import described, folders_in, images_below, kinds
from hpcfast.data.split import digest
from hpcfast.datasets.sources import Item, Source, labelled
from hpcfast.errors import UserError

TABLES = ("metadata.csv", "metadata.jsonl", "labels.csv")
"""In a folder of images; the first two are what Hugging Face's ``imagefolder`` reads."""
VAL = ("val", "valid", "validation", "dev", "test")
"""What others call ``val``; of several the first counts."""


def _share(text: str) -> str:
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?%", text)
    if not match or not 0 < float(match[1]) < 100:
        raise ValueError(f"'{text}' must be a share of the images between 0 and 100 %, e.g. 20%")
    return f"{match[1]}%"


def _pattern(text: str | None) -> str | None:
    try:
        if text is not None and "(" in text and re.compile(text).groups != 1:
            raise ValueError(f"'{text}' must have one group, whose text is the key, e.g. '(patient[0-9]+)_'")
    except re.error as error:
        raise ValueError(f"'{text}' is no regular expression: {error}") from None
    return text


class Images(Source):
    """Your own: a folder of class folders with or without train/ and val/, or a table (CSV, JSON lines) of labels.

    The division into train and val is a function of ``seed`` and of each image's name, or its group's.
    """

    val: Annotated[str, AfterValidator(_share)] = "20%"
    """Share of each class to validate with, where the source doesn't say."""
    seed: NonNegativeInt = 0
    """Decides which images these are."""
    labels: str | None = None
    """The table's column of classes."""
    groups: Annotated[str | None, AfterValidator(_pattern)] = None
    """What belongs together, such as a patient's images, and is never divided: a column of the table, or a regular
    expression on file names whose group, in parentheses, is the key."""

    def about(self) -> dict[str, Any]:
        listed = digest(sorted("\0".join(each) for each in self._examples))
        return self.model_dump(mode="json", exclude={"source"}) | {"listed": listed}

    def remarks(self) -> list[str]:
        folder = self._folder
        _, others = images_below(str(folder))
        used = {f"{folder}/{name}" for name in TABLES} | {str(self.source)}
        unread = kinds(file for file in others if file not in used)
        said = [f"{folder}: {unread.total():,} files are no images ({described(unread)})"] * bool(unread)
        if other := Counter(split for split in self._splits if split not in ("train", "val")):
            said.append(f"left out: {', '.join(f'{n:,} images of {split!a}' for split, n in other.most_common(5))}")
        return said

    def items(self) -> Iterator[Item]:
        taken: set[tuple[str, str, str]] = set()
        for each, split in zip(self._examples, self._splits, strict=True):
            if split not in ("train", "val"):
                continue
            place = each.file.removeprefix(f"{each.label}/").replace("/", "_")
            names = chain([place], (f"{number}_{place}" for number in count(2)))
            name = next(name for name in names if (split, each.label, name) not in taken)
            taken.add((split, each.label, name))
            yield Item(split, each.label, self._folder / each.file, name)

    @cached_property
    def _folder(self) -> Path:
        source = self.needed("your images: a folder of class folders, or a table of labels")
        return source if source.is_dir() else source.parent

    @cached_property
    def _examples(self) -> list[labelled.Row]:
        """All images, sorted by name; UserError if there are no two classes."""
        folder = self._folder
        found = sorted(_listed(folder, self._table(), self.labels, self.groups))
        classes = Counter(each.label for each in found)
        if len(classes) < 2:
            raise UserError(
                f"--source {self.source}: {len(classes)} classes ({', '.join(classes) or 'none'}), at least 2 are "
                f"needed; give a folder with one folder a class, or a table with a line a file: its name and class"
            )
        return found

    def _table(self) -> Path | None:
        if self.source and not self.source.is_dir():
            return self.source
        return next((self._folder / name for name in TABLES if (self._folder / name).is_file()), None)

    @cached_property
    def _splits(self) -> list[str]:
        """Of each example, train or val."""
        given = [each.split for each in self._examples]
        if any(given):
            called = next((name for name in VAL if name in given), None)
            splits = ["val" if split == called else split for split in given]
        else:
            splits = divide(self._examples, float(self.val[:-1]) / 100, self.seed)
        for split in ("train", "val"):
            has = {each.label for each, own in zip(self._examples, splits, strict=True) if own == split}
            if without := sorted({each.label for each in self._examples} - has):
                shown = ", ".join(without[:5])
                raise UserError(
                    f"--source {self.source}: {len(without)} classes have no image in {split}: {shown}. "
                    + ("Give another seed=, smaller groups" if self.groups else "Give each class 2 images or more")
                    + ", or leave the class out"
                )
        return splits


def _listed(folder: Path, table: Path | None, column: str | None, groups: str | None) -> Iterator[labelled.Row]:
    by_name = groups if groups and "(" in groups else None
    if table:
        rows = labelled.read(table, column, None if by_name else groups)
    else:
        rows = [*_folders(folder, by_name, groups, column)]
    for row in rows:
        yield row._replace(group=_key(row.file, by_name)) if by_name else row


def _folders(folder: Path, by_name: str | None, groups: str | None, column: str | None) -> Iterator[labelled.Row]:
    for setting, value in (("groups", groups if not by_name else None), ("labels", column)):
        if value:
            raise UserError(
                f"{setting}={value}: {folder} has no table with columns; there is none of {', '.join(TABLES)}"
            )
    names, _ = folders_in(str(folder))
    val = next((name for name in VAL if name in names), None)
    divided = {"train": "train", val: "val"} if "train" in names and val else {"": ""}
    for inside, split in divided.items():
        place = folder / (inside or "")
        for label in folders_in(str(place))[0]:
            for file in images_below(f"{place}/{label}")[0]:
                yield labelled.Row(file.removeprefix(f"{folder}/"), label, split, "")


def _key(file: str, pattern: str) -> str:
    match = re.search(pattern, file)
    if not match or not match[1]:
        raise UserError(f"groups={pattern}: finds nothing in {file}; every image needs a group")
    return match[1]


def divide(examples: Iterable[labelled.Row], share: float, seed: int) -> list[str]:
    """Of each example, train or val: so that val has this ``share`` of each class, as far as groups allow.

    Groups are gone through in an order that follows from ``seed`` and their names alone: images that come or go move
    few others.
    """
    examples = list(examples)
    groups = defaultdict(list)
    for i, each in enumerate(examples):
        groups[each.group or each.file].append(i)
    wanted = {label: max(1, round(share * n)) for label, n in Counter(each.label for each in examples).items()}
    splits = ["train"] * len(examples)
    for key in sorted(groups, key=lambda key: hashlib.sha256(f"{seed}\0{key}".encode("utf-8", "replace")).digest()):
        counts = Counter(examples[i].label for i in groups[key])
        useful = sum(min(n, max(0, wanted[label])) for label, n in counts.items())
        if 2 * useful > len(groups[key]):
            for i in groups[key]:
                splits[i] = "val"
            for label, n in counts.items():
                wanted[label] -= n
    return splits
