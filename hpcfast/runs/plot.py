"""Figures by matplotlib: one theme, images in a grid, and a file that is there whole or not at all."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure, FigureBase

from hpcfast.runs.files import write_atomically

FACE, TEXT, QUIET, RULE = "#ffffff", "#1c2430", "#566170", "#dfe3e8"
"""The report page's own colours (report/templates/style.css)."""
THEME: dict[Any, Any] = {
    "figure.facecolor": FACE, "axes.facecolor": FACE, "text.color": TEXT, "axes.labelcolor": TEXT,
    "axes.edgecolor": QUIET, "xtick.color": QUIET, "ytick.color": QUIET, "grid.color": RULE,
}  # fmt: skip


class Image(NamedTuple):
    """An image of a grid."""

    pixels: np.ndarray
    """Shape (channels, height, width), in [0,1]."""
    title: str = ""
    colours: str = "gray"
    """Matplotlib's name of the map from grey pixels to colours."""


def grid(figure: FigureBase, rows: Sequence[Sequence[Image]], title_size: float = 9) -> np.ndarray:
    """Draw ``rows`` of images, as many in each; returns their axes, shape (rows, columns)."""
    axes = figure.subplots(len(rows), len(rows[0]), squeeze=False)
    for place, image in zip(axes.flat, (image for row in rows for image in row), strict=True):
        pixels = image.pixels[0] if len(image.pixels) == 1 else image.pixels.transpose(1, 2, 0)
        place.imshow(pixels, cmap=image.colours, vmin=0, vmax=1)
        place.set_title(image.title, fontsize=title_size)
        place.set(xticks=[], yticks=[])
    return axes


def save(path: Path, draw: Callable[[], Figure], dpi: int = 100) -> None:
    """Write what ``draw`` makes, in the theme, to a PNG file; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with rc_context(THEME):
        figure = draw()
        write_atomically(path, lambda part: figure.savefig(part, format="png", dpi=dpi))
