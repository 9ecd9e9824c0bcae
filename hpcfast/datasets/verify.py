"""``hpcfast data verify``: find what would spoil a run, before it begins."""

import contextlib
import hashlib
import os
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import simplejpeg

from hpcfast.data import manifest, packed, skips
from hpcfast.data.folder import described, folders_in, images_below, kinds, read_split
from hpcfast.data.images import SUFFIXES, ImageError, opened, parsed, ready
from hpcfast.data.split import HASHES, Split, digest
from hpcfast.datasets.unfinished import save
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

    Returns:
        How many images were looked at, of which ``progress`` is told, and what was found.

    Raises:
        UserError: a split is missing or has fewer than two classes, or a class is empty.
    """
    if packed.is_pack(root):
        return _check_pack(root)
    splits = [read_split(root / name, "DATA") for name in SPLITS]
    names = [skips.name(split, i) for split in splits for i in range(len(split))]
    found = [*_missing_classes(*splits), *(each for split in splits for each in _unread(split))]
    # Before the bytes are read: what changes meanwhile is not known.
    hashes = {split.root.name: {"files": split.stamp()} for split in splits}
    validation: dict[str, str] = {}
    digests: list[str] = []
    with pool(len(names)) as executor:
        results = executor.map(examine, [f"{root}/{name}" for name in names], chunksize=16)
        for done, (name, (kind, reason, sha256)) in enumerate(zip(names, results, strict=True), 1):
            if kind:
                found.append(Found(name, kind, reason, "skip" if skips.fits(name) else "mend"))
            digests.append(sha256)
            if sha256 and name.startswith(SPLITS[0]):
                validation[sha256] = name
            elif sha256 in validation:
                found.append(Found(name, "in train and val", f"the same bytes as {validation[sha256]}", "mend"))
            progress(done)
    each = iter(digests)
    for split in splits:
        hashes[split.root.name]["content"] = digest(islice(each, len(split)))
    with contextlib.suppress(OSError):  # where the folder cannot be written, identities go without
        save(root / HASHES, hashes)
    return len(names), found + _without_good_images(names, found)


def examine(file: str) -> tuple[str, str, str]:
    """Decode one image file: what kind of fault it has, and why, if it has one; its SHA-256, if it was read whole."""
    path = Path(file)
    try:
        data = path.read_bytes()
    except OSError as error:
        if path.is_symlink() and not path.exists():
            return "dangling link", f"{path.readlink()} is not there", ""
        return "unreadable", error.strerror or str(error), ""
    if not data:
        return "empty", "0 bytes", ""
    sha256 = hashlib.sha256(data).hexdigest()
    try:
        _decode(data)
    except ImageError as error:
        return error.kind, str(error), sha256
    except ValueError as error:
        return "damaged", str(error), sha256
    return "", "", sha256


def _decode(data: bytes) -> None:
    """Decode all of an image, more strictly than Pillow does; ImageError or ValueError says what is damaged."""
    form = parsed(data).format
    if form in ("JPEG", "MPO"):  # MPO: a JPEG with more images behind it
        ready(np.frombuffer(data, np.uint8))  # as training does
        # An eighth of the size: all bits are read, the arithmetic is saved. Warnings are errors here.
        simplejpeg.decode_jpeg(data, "GRAY", min_height=1, min_width=1, min_factor=8)
        return
    opened(data)
    if form == "PNG":
        if b"IEND" not in data[-4096:]:  # some programs write a little behind it
            raise ValueError("the end is missing")
        if ready(encoded := np.frombuffer(data, np.uint8)) is encoded:  # Pillow does not decode it in training
            _inflate(data)


def _inflate(data: bytes) -> None:
    """ValueError for what Pillow doesn't mind in a PNG and DALI does: pixels or a checksum that are missing."""
    width, height = struct.unpack(">II", data[16:24])
    parts, at = [], 8
    while (kind := data[at + 4 : at + 8]) != b"IEND":
        end = at + 12 + int.from_bytes(data[at : at + 4])
        parts += [data[at + 8 : end - 4]] if kind == b"IDAT" else []
        at = end
    try:
        size = len(zlib.decompress(b"".join(parts)))
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if size < height * (1 + width * (3 if data[25] else 1)):  # bytes of the rows, each with its filter
        raise ValueError("its pixels end too early")


def _missing_classes(val: Split, train: Split) -> Iterator[Found]:
    for split, other in ((val, train), (train, val)):
        for label in sorted({*other.classes} - {*split.classes}):
            yield Found(f"{split.root.name}/{label}", "missing class", f"{other.root.name} has it", "mend")


def _unread(split: Split) -> Iterator[Found]:
    for label in ("", *split.classes) if split.unread else ():
        folder = split.root / label
        if names := images_below(str(folder))[1] if label else folders_in(str(folder))[1]:
            first = names[0].removeprefix(f"{split.root.parent}/")
            reason = f"{described(kinds(names))}, first {first}; images end in {', '.join(SUFFIXES)}"
            yield Found(f"{split.root.name}/{label}", "not read", reason, "mend")


def _without_good_images(names: list[str], found: list[Found]) -> list[Found]:
    """Classes (``train/CLASS``, whatever folders are below it) all of whose images are bad."""
    bad = {each.name for each in found if each.remedy == "skip"}
    images, lost = (Counter("/".join(name.split("/")[:2]) for name in some) for some in (names, bad))
    return [
        Found(label, "empty class", f"none of its {count} images can be read", "mend")
        for label, count in lost.items()
        if count == images[label]
    ]


def _check_pack(root: Path) -> tuple[int, list[Found]]:
    """Check the files of a pack; what is wrong with one cannot be skipped."""
    found = [Found(name, "damaged pack", reason, "mend") for name, reason in packed.faults(root, quick=False)]
    whole = manifest.MANIFEST not in {each.name for each in found}
    return sum(shard.images for shard in manifest.read(root).shards) if whole else 0, found


def check_place(path: Path) -> None:
    """UserError, before the long part, if no list can be written at ``path``, or somebody else's is there."""
    if not path.exists():
        if not os.access(path.parent, os.W_OK):
            raise UserError(f"{path} cannot be written; give a place with --skips FILE, to training data.skips=FILE")
        return
    skips.read(path)
    if not path.read_text(errors="surrogateescape").startswith(HEADER):
        raise UserError(f"{path} is not of 'hpcfast data verify' and is kept; give another place with --skips FILE")


def write_skips(path: Path, found: list[Found]) -> int:
    """List at ``path`` the images that training can leave out, and count them; for none, an older list is removed."""
    bad = {each.name: each.reason for each in found if each.remedy == "skip"}
    try:
        if bad:
            save_text(path, f"{HEADER}\n{skips.lines(dict(sorted(bad.items())))}")
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error}. Give another place with --skips FILE.") from None
    return len(bad)
