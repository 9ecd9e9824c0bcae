"""What can be wrong with an image file, as far as one can tell without training on it."""

import hashlib
import os
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import simplejpeg

from hpcfast.data.images import SUFFIXES_OF, ImageError, opened, parsed, ready

EDGE = 4096
"""Bytes at a file's end in which its end mark is looked for: some programs write a little behind it."""


class Fault(NamedTuple):
    """Something found; training can leave a ``bad`` image out, others are only worth knowing."""

    kind: str
    reason: str
    bad: bool = True


class Examined(NamedTuple):
    """One file's faults, and SHA-256 of its bytes; None where it was not read whole."""

    faults: list[Fault]
    digest: bytes | None


def examine(file: str, quick: bool) -> Examined:
    """Look at one image file.

    Args:
        quick: don't decode it if its first and last bytes are those of a whole image.
    """
    path = Path(file)
    try:
        if not path.stat().st_size:
            return Examined([Fault("empty", "0 bytes")], None)
        if quick and _looks_whole(path):
            return Examined([], None)
        data = path.read_bytes()
    except OSError as error:
        if path.is_symlink() and not path.exists():
            return Examined([Fault("dangling link", f"{path.readlink()} is not there")], None)
        return Examined([Fault("unreadable", error.strerror or str(error))], None)
    return Examined(_decode(data, path.suffix.lower()), hashlib.sha256(data).digest())


def _looks_whole(path: Path) -> bool:
    with path.open("rb", buffering=0) as file:
        head = file.read(12)
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - EDGE))
        return _both_ends(head, file.read(EDGE), size)


def _both_ends(head: bytes, tail: bytes, size: int) -> bool:
    """Whether a file of ``size`` bytes begins and ends as a JPEG, PNG or WebP; False for all else."""
    if head.startswith(b"\xff\xd8\xff"):
        return b"\xff\xd9" in tail
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return b"IEND" in tail
    return head[:4] == b"RIFF" and head[8:12] == b"WEBP" and int.from_bytes(head[4:8], "little") + 8 <= size


def _decode(data: bytes, suffix: str) -> list[Fault]:
    """Decode all of an image; faults of an image that can be read are not ``bad``."""
    whole = _both_ends(data[:12], data[-EDGE:], len(data))
    try:
        image = parsed(data)
        form = "JPEG" if image.format == "MPO" else str(image.format)  # a JPEG with more images behind it
        if form == "JPEG":
            ready(np.frombuffer(data, np.uint8))  # as training does
            # An eighth of the size: all bits are read, the arithmetic is saved. Warnings are errors here.
            simplejpeg.decode_jpeg(data, "GRAY", min_height=1, min_width=1, min_factor=8)
        else:
            opened(data)
        if form == "PNG":
            _look_closer(data, whole)
        return _remarks(form, image.mode, getattr(image, "n_frames", 1), suffix)
    except ImageError as error:
        odd = error.kind == "format" or (error.kind == "not an image" and not whole)
        return [Fault(error.kind if odd else "damaged" if whole else "truncated", str(error))]
    except ValueError as error:
        return [Fault("damaged" if whole else "truncated", str(error))]


def _look_closer(data: bytes, whole: bool) -> None:
    """Find in a PNG what Pillow doesn't mind and DALI does: an end or a checksum that is missing.

    Raises:
        ValueError: its message says what is wrong.
    """
    if not whole:
        raise ValueError("the end is missing")
    if ready(encoded := np.frombuffer(data, np.uint8)) is not encoded:
        return  # Pillow decodes it in training, too
    width, height = struct.unpack(">II", data[16:24])
    missing = height * (1 + width * (3 if data[25] else 1))  # bytes of the rows, each with its filter
    parts, at, inflate = [], 8, zlib.decompressobj()
    while (kind := data[at + 4 : at + 8]) != b"IEND":
        end = at + 12 + int.from_bytes(data[at : at + 4])
        parts += [data[at + 8 : end - 4]] if kind == b"IDAT" else []
        at = end
    packed = b"".join(parts)
    try:
        while packed and not inflate.eof:
            missing -= len(inflate.decompress(packed, 1 << 20))
            packed = inflate.unconsumed_tail
        missing -= len(inflate.flush())
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if missing > 0 or not inflate.eof:
        raise ValueError("its pixels end too early")


def _remarks(form: str, mode: str, frames: int, suffix: str) -> list[Fault]:
    found = []
    if suffix not in SUFFIXES_OF.get(form, ()):
        found.append(Fault("wrong suffix", f"a {form}", bad=False))
    if mode == "CMYK":
        found.append(Fault("CMYK", "read as RGB", bad=False))
    if frames > 1 and form != "JPEG":
        found.append(Fault("animated", f"the first of {frames} frames is read", bad=False))
    return found
