"""A study's figures: quantities against node counts.

Okabe and Ito's colours, and never colour alone: a method has its marker, a scaling its filling, a series its
line style.
"""

import io
import math
from collections.abc import Sequence
from typing import NamedTuple

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, NullLocator

from hpcfast.report.format import duration
from hpcfast.runs import plot as theme
from hpcfast.runs.names import in_figure
from hpcfast.scaling.cells import Cell, gain

LONG = 32
"""Characters that a label may have."""
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
MARKERS = ("o", "s", "^", "D")
STYLES = ("-", "--", "-.", (0, (1, 1.2)))


class Picture(NamedTuple):
    """A figure; ``alt`` says in words what it shows."""

    name: str
    title: str
    alt: str
    svg: str
    """A file."""
    inline: str
    """An element in the colours of the page that it stands in."""


def pictures(data: str, cells: Sequence[Cell]) -> list[Picture]:
    """The figures of one data set; what nothing is known of has none."""
    plots = [
        ("ttra", "Time to robust accuracy", "seconds", duration, [cell.ttra for cell in cells]),
        ("efficiency", "Efficiency", "of the ideal", "{:.0%}".format, [gain(cell, cells)[1] for cell in cells]),
        ("epochs", "Epochs to the target", "epochs", "{:.3g}".format, [cell.epochs for cell in cells]),
        ("epoch-seconds", "Seconds per epoch, all told", "seconds", duration, [c.seconds_per_epoch for c in cells]),
    ]
    found = []
    for name, title, y, say, values in plots:
        points = list(zip(cells, values, strict=True))
        alt = "; ".join(f"{cell.name}: {say(value)}" for cell, value in points if not math.isnan(value))
        if alt:
            found.append(Picture(f"{data}-{name}", title, alt, *_svg(name, y, points)))
    return found


def _svg(name: str, y: str, points: Sequence[tuple[Cell, float]]) -> tuple[str, str]:
    """A figure as a file and as an element of a page."""
    out = io.StringIO()
    with rc_context({**theme.THEME, "font.size": 9.5, "svg.hashsalt": name}):
        figure = _draw(name, y, points)
        figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue(), theme.inline(lambda: figure)


def _draw(name: str, y: str, points: Sequence[tuple[Cell, float]]) -> Figure:
    """A quantity ``y`` of cells against their nodes; NaN: a gap in the line."""
    figure = Figure(figsize=(4.4, 3.4), layout="constrained")
    axes = figure.subplots()
    axes.grid(visible=True, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    methods = sorted({cell.kind.method for cell, _ in points})
    all_series = sorted({cell.series for cell, _ in points})
    for i, series in enumerate(all_series):
        own = [(cell, value) for cell, value in points if cell.series == series]
        _, method, scaling = series
        colour, marker = (of[methods.index(method) % 4] for of in (COLOURS, MARKERS))
        axes.plot(
            [cell.nodes for cell, _ in own], [value for _, value in own], color=colour, marker=marker, markersize=6.5,
            markerfacecolor=colour if scaling == "strong" else theme.FACE, linestyle=STYLES[i % 4], linewidth=1.7,
            label=in_figure(f"{method}, {scaling}", LONG), zorder=3,
        )  # fmt: skip
        if name == "ttra":
            _runs(axes, [cell for cell, _ in own], 2 ** (0.14 * (i - (len(all_series) - 1) / 2)), colour, marker)
    nodes = sorted({cell.nodes for cell, _ in points})
    if name == "efficiency":
        axes.plot(nodes, [1.0] * len(nodes), color=theme.TEXT, linewidth=1, linestyle=":", label="ideal")
    _scales(axes, nodes, percents=name == "efficiency")
    axes.set_ylabel(y)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=9, frameon=False)
    return figure


def _runs(axes: Axes, cells: Sequence[Cell], aside: float, colour: str, marker: str) -> None:
    """Every run: a dot beside the mean, or a cross at the upper edge if it did not converge."""
    for cell in cells:
        x = cell.nodes * aside
        reached = [row.time for row in cell.converged]
        axes.plot([x] * len(reached), reached, linestyle="", marker=marker, markersize=3, color=colour, alpha=0.65)
        for k in range(len(cell.ended) - len(reached)):
            edge = axes.get_xaxis_transform()
            axes.plot(x, 0.97 - 0.05 * k, "x", markersize=5, color=colour, transform=edge, clip_on=False)


def _scales(axes: Axes, nodes: Sequence[int], percents: bool) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xlim(nodes[0] / 1.35, nodes[-1] * 1.35)
    axes.xaxis.set_major_locator(FixedLocator(nodes[:: -(-len(nodes) // 7)]))  # more labels would overlap
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlabel("nodes")
    low, high = axes.dataLim.y0, axes.dataLim.y1
    if low > 0 and high >= 10 * low:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.set_ylim(low / 1.3, high * 1.6)
    else:
        axes.set_ylim(0, high * 1.15)
    axes.yaxis.set_major_formatter((lambda y, _: f"{100 * y:g} %") if percents else _plain)


def _plain(value: float, _: object = None) -> str:
    """Without a power of ten."""
    return f"{value:,.9f}".rstrip("0").rstrip(".")
