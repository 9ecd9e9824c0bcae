"""Figures by matplotlib: one theme, images in a grid, and a file that is there whole or not at all."""

import io
import re
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
RUNS = ("#0088ea", "#d96c00", "#174340", "#8d88ad", "#733605", "#5b1e80")
"""Of lines, in turn. Searched to differ for every kind of colour blindness (Machado et al. 2009), and by lightness."""
ON_ANY = "#7d7f84"
"""Of text that stands on white as well as on black: it has four times the light of one, a fourth of the other's."""
PICTURE = THEME | {
    "figure.facecolor": "none",
    "text.color": ON_ANY,
    "axes.labelcolor": ON_ANY,
    "axes.edgecolor": ON_ANY,
}
"""Of files that pages, light and dark, show as they are."""
VARIABLES = {FACE: "--card", TEXT: "--text", QUIET: "--quiet", RULE: "--rule"} | {
    colour: f"--run-{i}" for i, colour in enumerate(RUNS)
}
"""What the page's style sheet calls each colour; there it has another one for dark screens."""


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
    """Write what ``draw`` makes to a PNG file without a background; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with rc_context(PICTURE):
        figure = draw()
        write_atomically(path, lambda part: figure.savefig(part, format="png", dpi=dpi))


def inline(draw: Callable[[], Figure]) -> str:
    """What ``draw`` makes, as an SVG element in an HTML page, whose style sheet then colours it.

    A mark that has a ``url`` shows that text where the mouse points at it.
    """
    file = io.StringIO()
    with rc_context(THEME | {"svg.fonttype": "none", "font.size": 9}):
        draw().savefig(file, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    svg = file.getvalue()
    for pattern, new in (
        (r'(?s)^.*?<svg[^>]*?( viewBox="[^"]*")[^>]*>', r"<svg\1>"),
        (r'<g id="[^"]*">', "<g>"),  # unique only within a figure
        (r"""(?s)<a xlink:href=(["'])(.*?)\1[^>]*>""", r"<g><title>\2</title>"),
        ("</a>", "</g>"),
        (r"font-family: [^;]*; ", ""),
        (r" *\n *(?=[A-Z<z\"])", ""),  # a third of the bytes
    ):
        svg = re.sub(pattern, new, svg)
    svg = re.sub(r' (?:d|x|y)="[^"]*"', lambda place: re.sub(r"(\.\d\d)\d+", r"\1", place[0]), svg)  # 0.01 points
    return re.sub('style="[^"]*"', lambda style: re.sub("#[0-9a-f]{6}", _variable, style[0]), svg)


def _variable(colour: re.Match[str]) -> str:
    return f"var({VARIABLES[colour[0]]})" if colour[0] in VARIABLES else colour[0]
