"""What can be wrong with an image file, as far as one can tell without training on it."""

import hashlib
import io
import os
import warnings
from pathlib import Path
from typing import NamedTuple

import simplejpeg
from PIL import Image, UnidentifiedImageError

SUFFIXES_OF = {"JPEG": (".jpg", ".jpeg"), "PNG": (".png",), "BMP": (".bmp",), "WEBP": (".webp",)}
READABLE = {*SUFFIXES_OF, "TIFF", "PPM", "JPEG2000"}
"""What DALI reads, by the name Pillow gives it; it goes by the content, not by the suffix."""

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
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(data)) as image:
            form = "JPEG" if image.format == "MPO" else str(image.format)  # a JPEG with more images behind it
            frames = getattr(image, "n_frames", 1)
            if form not in READABLE:
                moving = f" of {frames} frames" if frames > 1 else ""
                return [Fault("format", f"{form}{moving}; DALI reads {', '.join(SUFFIXES_OF)}")]
            if form == "JPEG":
                # An eighth of the size: all bits are read, the arithmetic is saved. Warnings are errors here.
                simplejpeg.decode_jpeg(data, "GRAY", min_height=1, min_width=1, min_factor=8)
            else:
                image.load()
            if form == "PNG" and not whole:
                raise ValueError("the end is missing")  # Pillow doesn't mind, DALI does
            return _remarks(form, image.mode, frames, suffix)
    except UnidentifiedImageError:
        return [Fault("damaged" if whole else "not an image", f"it begins with {data[:8]!r}")]
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return [Fault("damaged" if whole else "truncated", str(error))]


def _remarks(form: str, mode: str, frames: int, suffix: str) -> list[Fault]:
    found = []
    if suffix not in SUFFIXES_OF.get(form, ()):
        found.append(Fault("wrong suffix", f"a {form}", bad=False))
    if mode == "CMYK":
        found.append(Fault("CMYK", "read as RGB", bad=False))
    if frames > 1 and form != "JPEG":
        found.append(Fault("animated", f"the first of {frames} frames is read", bad=False))
    return found
