"""``hashes.json`` in a data set's folder: what ``hpcfast data verify`` found every byte of it to be.

It holds as long as names, sizes and times of change are the same; after that it is as if it were not there.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

NAME = "hashes.json"


def digest(parts: Iterable[str]) -> str:
    """128 bits of SHA-256 of lines, in hexadecimal."""
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:32]


def entry(names: list[str], stats: np.ndarray, contents: list[str]) -> dict[str, str]:
    """What is written of one split.

    Args:
        names: of its images, in their order.
        stats: their sizes (bytes) and times of change (ns), shape (n, 2), int64.
        contents: a digest of each one's bytes.
    """
    return {"files": _stamp(names, stats), "content": digest(contents)}


def content(root: Path, names: list[str], stats: np.ndarray) -> str | None:
    """The digest of all bytes of the split in ``root``; None where nobody knows it, or files have changed since."""
    try:
        known: Any = json.loads((root.parent / NAME).read_text())[root.name]
        return str(known["content"]) if known["files"] == _stamp(names, stats) else None
    except (OSError, ValueError, KeyError, TypeError):  # none, or none of ours
        return None


def _stamp(names: list[str], stats: np.ndarray) -> str:
    return digest(f"{name}\0{size}\0{time}" for name, (size, time) in zip(names, stats.tolist(), strict=True))
