"""A run's figures as part of a page: what they show in words, and few bytes."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from hpcfast.report.runs import Record

SHOWS = {
    "adversarial.png": "What it takes to fool each network: the smallest changes that PGD finds, all on one scale",
    "explain.png": "What each network looks for",
}
MOST = 120_000
"""Bytes of all pictures of a page, about: a page is to be sent by mail."""
COARSER = ((1200, 85), (1200, 60), (900, 50), (600, 40), (400, 30))
"""Widths in pixels, and WebP's qualities, tried in turn until a picture is small enough."""


class Picture(NamedTuple):
    """What it shows, and its file as a URL that holds it."""

    caption: str
    url: str


def of_runs(records: Sequence[Record]) -> list[Picture]:
    """All figures of ``records``."""
    found = [(record, path) for record in records for path in sorted(record.run.figures.glob("*.png"))]
    return [Picture(_caption(path, record), _url(path, MOST // len(found))) for record, path in found]


def _caption(path: Path, record: Record) -> str:
    file = f"{path.name} of {record.name}"
    return f"{SHOWS[path.name]} ({file})" if path.name in SHOWS else file


def _url(path: Path, most: int) -> str:
    with Image.open(path) as image:
        for width, quality in COARSER:
            part, file = image.convert("RGBA"), io.BytesIO()
            part.thumbnail((width, 4 * width))
            part.save(file, "WEBP", quality=quality)
            if file.tell() <= most:
                break
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
