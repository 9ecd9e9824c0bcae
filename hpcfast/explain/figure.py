"""The picture: what each run's network has learnt, side by side."""

import math
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from hpcfast.explain import features
from hpcfast.runs import plot
from hpcfast.runs.names import in_figure

IMAGES = 4
GRADIENT = "gradient,\neach on its\nown scale"


def choose(labels: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Places of up to ``IMAGES`` images of different classes that every model classifies correctly.

    Where there are no two such images, any: of weak networks they show as much. ``labels`` (n,), ``right`` (models, n).
    """
    good = np.flatnonzero(right.all(0))
    if len(np.unique(labels[good])) < 2:
        good = np.arange(len(labels))
    classes, first = np.unique(labels[good], return_index=True)
    return good[first[np.linspace(0, len(classes) - 1, min(IMAGES, len(classes))).round().astype(int)]]


def panels(model: nn.Module, x: Tensor, y: Tensor, radius: float) -> dict[str, Tensor]:
    """The images of one model's columns, by row; for each image of ``x``, shape (n, channels, height, width).

    Each is pushed by ``radius`` (pixels, Euclidean; at most half the diagonal) towards the class of the next, another.
    """
    free = math.sqrt(x[0].numel()) / 2  # from grey to black or white: a ball to make a new image in
    return {
        "image": x,
        GRADIENT: features.slope(model, x, y),
        "pushed towards\nthe next class": features.towards(model, x, y.roll(-1), min(radius, free)),
        "inverted from\nthe next image": features.inverted(model, x, x.roll(-1, 0), free),
    }


def draw(path: Path, columns: list[tuple[str, dict[str, Tensor]]], classes: list[str]) -> None:
    """Draw a group of columns for each run (its name and :func:`panels`), a row for each kind of image."""
    n, kinds = len(classes), list(columns[0][1])

    def figure() -> Figure:
        widths = [n + 1.0, *[float(n)] * (len(columns) - 1)]  # the first group has the rows' names too
        figure = Figure(figsize=(sum(widths), len(kinds) + 0.6))
        figure.set_layout_engine("constrained", w_pad=0.02, h_pad=0.03, wspace=0.0, hspace=0.0)
        groups = figure.subfigures(1, len(columns), squeeze=False, width_ratios=widths, wspace=0.02)[0]
        for group, (name, images) in zip(groups, columns, strict=True):
            group.suptitle(in_figure(name, 12 * n), fontsize=12, fontweight="bold")
            axes = plot.grid(group, [_row(images[kind], kind, classes) for kind in kinds], title_size=8)
            for row, label in enumerate(kinds if group is groups[0] else ()):
                axes[row, 0].set_ylabel(label, fontsize=9, rotation=0, ha="right", va="center")
        return figure

    plot.save(path, figure)


def _row(images: Tensor, kind: str, classes: list[str]) -> list[plot.Image]:
    """Images of one kind; gradients are about white in blue and red, or in colours about grey."""
    titles = [in_figure(name, 14) if kind == "image" else "" for name in classes]
    colours = "RdBu_r" if kind == GRADIENT else "gray"
    pixels = [about_half(image) if kind == GRADIENT else image for image in images.cpu()]
    return [plot.Image(image.numpy(), title, colours) for image, title in zip(pixels, titles, strict=True)]


def about_half(change: Tensor) -> Tensor:
    """Move zero to a half; the largest hundredth of the entries is cut, so that it doesn't hide the others."""
    size = change.abs().flatten().quantile(0.99).clamp_min(torch.finfo(torch.float32).tiny)
    return (0.5 + change / (2 * size)).clamp(0, 1)
