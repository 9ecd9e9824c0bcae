"""``hpcfast data verify``: find what would spoil a run, before it begins."""

import contextlib
import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

from hpcfast.data import hashes, manifest, packed, skips
from hpcfast.data.images import SUFFIXES
from hpcfast.data.listing import described, folders_in, images_below, kinds
from hpcfast.data.split import stats
from hpcfast.datasets.faults import examine
from hpcfast.datasets.workers import pool
from hpcfast.errors import UserError
from hpcfast.runs.files import save_text

SPLITS = ("val", "train")
"""In the order in which they are read: of the first the hashes are kept, and val is the smaller one."""


HEADER = "# Written by hpcfast data verify; training leaves these images out."


class Found(NamedTuple):
    """Something wrong, or worth knowing."""

    name: str
    """Of the file or folder, relative to the data set."""
    kind: str
    reason: str
    remedy: Literal["skip", "mend", "note"]
    """``skip``: training can leave the image out; ``mend``: only a person can help; ``note``: no harm is done."""


class Checked(NamedTuple):
    """How many images were looked at, and what was found."""

    images: int
    found: list[Found]

    def to(self, remedy: str) -> list[Found]:
        return [each for each in self.found if each.remedy == remedy]


def verify(
    root: Path, quick: bool, workers: int | None, known: dict[str, str], progress: Callable[[int], None]
) -> Checked:
    """Check the data set in ``root``, a folder or a pack.

    Args:
        quick: don't decode images whose first and last bytes are in order, and don't look for duplicates.
        workers: processes; by default as many as there are cores.
        known: images that an earlier check found bad; they are decoded in any case.
        progress: called with the number of images looked at so far.

    Raises:
        UserError: there is no such folder.
    """
    if not root.is_dir():
        raise UserError(f"no folder {root}; give a data set: a folder with train/ and val/, or a pack")
    if packed.is_pack(root):
        return _check_pack(root, quick)
    names, found = _survey(root)
    validation: dict[bytes, str] = {}
    digests: list[str] = []
    files, glances = [f"{root}/{name}" for name in names], [quick and name not in known for name in names]
    with pool(len(names), workers) as executor:
        results = executor.map(examine, files, glances, chunksize=256 if quick else 16)
        for done, (name, (faults, digest)) in enumerate(zip(names, results, strict=True), 1):
            found += [Found(name, fault.kind, fault.reason, "skip" if fault.bad else "note") for fault in faults]
            digests.append(digest.hex() if digest else "")
            if digest and name.startswith(SPLITS[0]):
                validation[digest] = name
            elif digest in validation:
                found.append(Found(name, "in train and val", f"the same bytes as {validation[digest]}", "mend"))
            progress(done)
    if not quick:
        _write_hashes(root, names, digests)
    return Checked(len(names), found + _without_good_images(names, found))


def _survey(root: Path) -> tuple[list[str], list[Found]]:
    """All images, named relative to ``root``, and what is wrong with the folders."""
    names: list[str] = []
    found: list[Found] = []
    classes: dict[str, set[str]] = {}
    for split in SPLITS:
        folders, loose = folders_in(f"{root}/{split}")
        classes[split] = set(folders)
        found += _unread(split, loose)
        for label in folders:
            listed = images_below(f"{root}/{split}/{label}")
            names += [file.removeprefix(f"{root}/") for file in listed.images]
            found += _unread(f"{split}/{label}", [file.removeprefix(f"{root}/") for file in listed.others])
            if not listed.images:
                found.append(Found(f"{split}/{label}", "empty class", "no image in it", "mend"))
    for split, other in (SPLITS, SPLITS[::-1]):
        missing = sorted(classes[other] - classes[split])
        found += [Found(f"{split}/{label}", "missing class", f"{other} has it", "mend") for label in missing]
    if not any(classes.values()):
        found += [Found(split, "missing class", "no class folder in it", "mend") for split in SPLITS]
    return names, found


def _unread(where: str, names: list[str]) -> list[Found]:
    if not names:
        return []
    others = f" and {len(names) - 1} more" if len(names) > 1 else ""
    reason = f"{described(kinds(names))}: {names[0]}{others}; images end in {', '.join(SUFFIXES)}"
    return [Found(where, "not read", reason, "mend")]


def _without_good_images(names: list[str], found: list[Found]) -> list[Found]:
    """Classes (``train/CLASS``, whatever folders are below it) all of whose images are bad."""
    bad = {each.name for each in found if each.remedy == "skip"}
    images, lost = (Counter("/".join(name.split("/")[:2]) for name in some) for some in (names, bad))
    return [
        Found(label, "empty class", f"none of its {count} images can be read", "mend")
        for label, count in lost.items()
        if count == images[label]
    ]


def _write_hashes(root: Path, names: list[str], digests: list[str]) -> None:
    """Note what all images are, for identities; where the folder cannot be written, they go without."""
    entries = {}
    for split in SPLITS:
        mine = [(name, each) for name, each in zip(names, digests, strict=True) if name.startswith(f"{split}/")]
        found = stats([f"{root}/{name}" for name, _ in mine])
        inner = [name.removeprefix(f"{split}/") for name, _ in mine]
        entries[split] = hashes.entry(inner, found, [each for _, each in mine])
    with contextlib.suppress(OSError):
        save_text(root / hashes.NAME, json.dumps(entries, indent=1) + "\n")


def _check_pack(root: Path, quick: bool) -> Checked:
    """Check the files of a pack; what is wrong with one cannot be skipped."""
    found = [Found(name, "damaged pack", reason, "mend") for name, reason in packed.faults(root, quick)]
    whole = manifest.MANIFEST not in {each.name for each in found}
    return Checked(sum(shard.images for shard in manifest.read(root).shards) if whole else 0, found)


def earlier(path: Path) -> dict[str, str]:
    """The images that an older list at ``path`` names, with the reasons; none if there is no list.

    Raises:
        UserError: something else is there, or no list can be written there.
    """
    if not path.exists():
        if not os.access(path.parent, os.W_OK):
            raise UserError(f"{path} cannot be written; give a place with --skips FILE, to training data.skips=FILE")
        return {}
    listed = skips.read(path)
    if not path.read_text(errors="surrogateescape").startswith(HEADER):
        raise UserError(f"{path} is not of 'hpcfast data verify' and is kept; give another place with --skips FILE")
    return listed


def write_skips(path: Path, found: list[Found]) -> None:
    """List those images at ``path`` that training can leave out; where all are good, an older list goes.

    Raises:
        UserError: it cannot be written.
    """
    lines = {each.name: each.reason for each in found if each.remedy == "skip"}
    try:
        if not lines:
            path.unlink(missing_ok=True)
            return
        text = "".join(f"{name}\t{' '.join(reason.split())}\n" for name, reason in sorted(lines.items()))
        save_text(path, f"{HEADER}\n{text}")
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error}. Give another place with --skips FILE.") from None
