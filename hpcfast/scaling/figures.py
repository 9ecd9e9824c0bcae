"""A study's figures: quantities against node counts.

Okabe and Ito's colours, and never colour alone: a method has its marker, a scaling its filling, a series its
line style.
"""

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, NullLocator

from hpcfast.runs import plot as theme
from hpcfast.runs.names import in_figure
from hpcfast.scaling.cells import Cell, gain

LONG = 32
"""Characters that a label may have."""
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
MARKERS = ("o", "s", "^", "D")
STYLES = ("-", "--", "-.", (0, (1, 1.2)))


@dataclass(frozen=True)
class Picture:
    """One figure as SVG; ``alt`` says in words what it shows."""

    name: str
    title: str
    alt: str
    svg: str


@dataclass(frozen=True)
class Plot:
    """A quantity against nodes."""

    name: str
    title: str
    y: str
    value: Callable[[Cell], float | None]
    say: str = "{:.3g}"


def pictures(data: str, cells: Sequence[Cell]) -> list[Picture]:
    """The figures of one data set; what nothing is known of has none."""
    plots = [
        Plot("ttra", "Time to robust accuracy", "seconds", lambda cell: cell.ttra, "{:.3g} s"),
        Plot("efficiency", "Efficiency", "of the ideal", lambda cell: gain(cell, cells)[1], "{:.0%}"),
        Plot("epochs", "Epochs to the target", "epochs", lambda cell: cell.epochs),
        Plot("epoch-seconds", "Seconds per epoch, all told", "seconds", lambda cell: cell.seconds_per_epoch),
    ]
    found = []
    for plot in plots:
        values = [(cell.name, value) for cell in cells if (value := plot.value(cell)) is not None]
        if values:
            alt = "; ".join(f"{name}: {plot.say.format(value)}" for name, value in values)
            found.append(Picture(f"{data}-{plot.name}", plot.title, alt, _svg(cells, plot)))
    return found


def _svg(cells: Sequence[Cell], plot: Plot) -> str:
    out = io.StringIO()
    with rc_context({**theme.THEME, "font.size": 9.5, "svg.hashsalt": plot.name}):
        _draw(cells, plot).savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()


def _draw(cells: Sequence[Cell], plot: Plot) -> Figure:
    figure = Figure(figsize=(4.4, 3.4), layout="constrained")
    axes = figure.subplots()
    axes.grid(visible=True, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    methods, all_series = sorted({cell.kind.method for cell in cells}), sorted({cell.series for cell in cells})
    for i, series in enumerate(all_series):
        own = [cell for cell in cells if cell.series == series]
        values = [math.nan if (y := plot.value(cell)) is None else y for cell in own]  # NaN: a gap in the line
        colour, marker = (of[methods.index(series[1]) % 4] for of in (COLOURS, MARKERS))
        axes.plot(
            [cell.nodes for cell in own], values, color=colour, marker=marker, markersize=6.5,
            markerfacecolor=colour if series[2] == "strong" else theme.FACE, linestyle=STYLES[i % 4], linewidth=1.7,
            label=in_figure(f"{series[1]}, {series[2]}", LONG), zorder=3,
        )  # fmt: skip
        if plot.name == "ttra":
            _runs(axes, own, 2 ** (0.14 * (i - (len(all_series) - 1) / 2)), colour, marker)
    nodes = sorted({cell.nodes for cell in cells})
    if plot.name == "efficiency":
        axes.plot(nodes, [1.0] * len(nodes), color=theme.TEXT, linewidth=1, linestyle=":", label="ideal")
    _scales(axes, nodes, percents=plot.name == "efficiency")
    axes.set_ylabel(plot.y)
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


def _scales(axes: Axes, nodes: Sequence[int], percents: bool = False) -> None:
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
    axes.yaxis.set_major_formatter((lambda y, _: f"{100 * y:g} %") if percents else "{x:,.6g}")
