"""Images that are left out: lists of them, which ``hpcfast data verify`` writes and a run extends.

A line is ``train/CLASS/FILE<TAB>reason``; what begins with # is a comment.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from hpcfast.data.split import Split
from hpcfast.errors import UserError

NAME = "skips.txt"
"""Of the list in a data set's own folder, and of the one in a run's."""
MOST = 10, 0.01
"""So many bad images, or this share of a split if it is more, are bad luck; more are a fault of the disk."""


def read(file: Path) -> dict[str, str]:
    """Reasons by name, as ``file`` has them; UserError if it cannot be read or is no such list."""
    try:
        lines = file.read_bytes().decode(errors="surrogateescape").split("\n")  # names may hold any other line break
    except OSError as error:
        raise UserError(f"data.skips: {file} cannot be read: {error}; 'hpcfast data verify' writes one") from None
    listed = {}
    for number, line in enumerate(lines, 1):
        name, _, reason = line.partition("\t")
        if not line.strip() or line.startswith("#"):
            continue
        if not name.startswith(("train/", "val/")):
            raise UserError(
                f"data.skips: {file}, line {number}: {line[:80]!r} should be train/CLASS/FILE or val/CLASS/FILE, a tab "
                f"and a reason. Mend the line or write the list anew with 'hpcfast data verify'."
            )
        listed[name] = reason.strip()
    return listed


def without(split: Split, listed: Mapping[str, str]) -> Split:
    """``split`` without the listed images. They keep their ids, which names of other splits don't have."""
    if not listed:
        return split
    start = len(str(split.root.parent)) + 1
    found = {i: listed[file[start:]] for i, file in enumerate(split.files) if file[start:] in listed}
    return replace(split, skips={**split.skips, **found})


def text(split: Split) -> str:
    """A list of what ``split`` leaves out."""
    bad = {name(split, i): reason for i, reason in sorted(split.skips.items())}
    return "# Left out of this run. Beside train/ and val/, this list leaves them out of all runs.\n" + lines(bad)


def lines(bad: Mapping[str, str]) -> str:
    """Lines of a list, from reasons by name."""
    return "".join(f"{name}\t{' '.join(reason.split())}\n" for name, reason in bad.items() if fits(name))


def fits(name: str) -> bool:
    """Whether a list can hold an image of this name."""
    return "\n" not in name and "\t" not in name


def name(split: Split, image: int) -> str:
    """What lists call an image: ``train/CLASS/FILE``, in a pack ``train/SHARD.tar/FILE``."""
    return split.files[image][len(str(split.root.parent)) + 1 :]


def described(split: Split, faults: Mapping[int, str]) -> str:
    """The first of some bad images, for a message."""
    return first_of({split.files[i]: reason for i, reason in sorted(faults.items())})


def first_of(bad: Mapping[str, str]) -> str:
    """The first of some bad images, by name, for a message."""
    shown = [f"{name} {reason}" for name, reason in list(bad.items())[:5]]
    return "; ".join(shown) + (f"; and {len(bad) - 5} more" if len(bad) > 5 else "")


def refuse_many(split: Split, faults: Mapping[int, str], wanted: int) -> None:
    """UserError if ``faults`` are too many, or all of the ``wanted`` images: then it is the disk that is bad."""
    limit = min(max(MOST[0], int(MOST[1] * len(split))), wanted - 1)
    if len(faults) > limit:
        raise UserError(
            f"{split.root}: {len(faults)} of {len(split)} images are bad, more than {limit}: "
            f"{described(split, faults)}. Is the disk there? If it is, let 'hpcfast data verify' list them first."
        )
