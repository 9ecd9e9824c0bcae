"""What can be wrong with an image file, as far as one can tell without training on it."""

import hashlib
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import simplejpeg

from hpcfast.data.images import ImageError, opened, parsed, ready


class Examined(NamedTuple):
    """One file: what kind of fault it has, and why, empty where it has none; and what its bytes are."""

    kind: str = ""
    reason: str = ""
    digest: bytes | None = None
    """SHA-256; None where it was not read whole."""


def examine(file: str) -> Examined:
    """Decode one image file."""
    path = Path(file)
    try:
        data = path.read_bytes()
    except OSError as error:
        if path.is_symlink() and not path.exists():
            return Examined("dangling link", f"{path.readlink()} is not there")
        return Examined("unreadable", error.strerror or str(error))
    if not data:
        return Examined("empty", "0 bytes")
    digest = hashlib.sha256(data).digest()
    try:
        _decode(data)
    except ImageError as error:
        return Examined(error.kind, str(error), digest)
    except ValueError as error:
        return Examined("damaged", str(error), digest)
    return Examined(digest=digest)


def _decode(data: bytes) -> None:
    """Decode all of an image, more strictly than Pillow does.

    Raises:
        ImageError, ValueError: it is damaged; the message says how.
    """
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
    """Find in a PNG what Pillow doesn't mind and DALI does: pixels or a checksum that are missing.

    Raises:
        ValueError: its message says what is wrong.
    """
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
