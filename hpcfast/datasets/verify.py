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
    """Something wrong."""

    name: str
    """Of the file or folder, relative to the data set."""
    kind: str
    reason: str
    remedy: Literal["skip", "mend"]
    """``skip``: training can leave the image out; ``mend``: only a person can help."""


def verify(root: Path, progress: Callable[[int], None]) -> tuple[int, list[Found]]:
    """Decode all images of the data set in ``root``, a folder, or hash the files of a pack.

    Args:
        progress: called with the number of images looked at so far.

    Returns:
        How many images were looked at, and what was found.

    Raises:
        UserError: there is no such folder.
    """
    if not root.is_dir():
        raise UserError(f"no folder {root}; give a data set: a folder with train/ and val/, or a pack")
    if packed.is_pack(root):
        return _check_pack(root)
    names, found = _survey(root)
    validation: dict[bytes, str] = {}
    digests: list[str] = []
    with pool(len(names)) as executor:
        results = executor.map(examine, [f"{root}/{name}" for name in names], chunksize=16)
        for done, (name, (kind, reason, digest)) in enumerate(zip(names, results, strict=True), 1):
            if kind:
                found.append(Found(name, kind, reason, "skip"))
            digests.append(digest.hex() if digest else "")
            if digest and name.startswith(SPLITS[0]):
                validation[digest] = name
            elif digest in validation:
                found.append(Found(name, "in train and val", f"the same bytes as {validation[digest]}", "mend"))
            progress(done)
    _write_hashes(root, names, digests)
    return len(names), found + _without_good_images(names, found)


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


def _check_pack(root: Path) -> tuple[int, list[Found]]:
    """Check the files of a pack; what is wrong with one cannot be skipped."""
    found = [Found(name, "damaged pack", reason, "mend") for name, reason in packed.faults(root, quick=False)]
    whole = manifest.MANIFEST not in {each.name for each in found}
    return sum(shard.images for shard in manifest.read(root).shards) if whole else 0, found


def check_place(path: Path) -> None:
    """Make sure, before the long part, that a list can be written at ``path``.

    Raises:
        UserError: it cannot, or somebody else's list is there.
    """
    if not path.exists():
        if not os.access(path.parent, os.W_OK):
            raise UserError(f"{path} cannot be written; give a place with --skips FILE, to training data.skips=FILE")
        return
    skips.read(path)
    if not path.read_text(errors="surrogateescape").startswith(HEADER):
        raise UserError(f"{path} is not of 'hpcfast data verify' and is kept; give another place with --skips FILE")


def write_skips(path: Path, found: list[Found]) -> int:
    """List those images at ``path`` that training can leave out; where all are good, an older list goes.

    Returns:
        How many they are.

    Raises:
        UserError: it cannot be written.
    """
    lines = {each.name: each.reason for each in found if each.remedy == "skip"}
    try:
        if lines:
            text = "".join(f"{name}\t{' '.join(reason.split())}\n" for name, reason in sorted(lines.items()))
            save_text(path, f"{HEADER}\n{text}")
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error}. Give another place with --skips FILE.") from None
    return len(lines)
