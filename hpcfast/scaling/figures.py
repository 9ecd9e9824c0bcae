"""A study's figures, each for light and dark screens; the light one is also for print.

Okabe and Ito's colours, and never colour alone: a method has its marker, a scaling its filling, a series its line
style, and a part of the time its hatching.
"""

import io
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from hpcfast.report.format import percent
from hpcfast.runs.names import in_figure
from hpcfast.scaling.cells import Cell, count, gain, time_of

FACE, TEXT, QUIET, RULE = "#ffffff", "#1c2430", "#566170", "#dfe3e8"
DARK = {FACE: "#1b2027", TEXT: "#e6eaf0", QUIET: "#a5b0bd", RULE: "#343c47"}
"""The page's own colours (report/templates/style.css), and what each is on a dark screen."""
INK, PAPER = "#1c2431", "#fefefe"
"""On bars, which are the same on both."""
LONG = 32
"""Characters that a label may have."""
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
MARKERS = ("o", "s", "^", "D")
STYLES = ("-", "--", "-.", (0, (1, 1.2)))
SHARES: dict[str, tuple[str, str, str]] = {
    "attack": ("attack", "#E69F00", ""),
    "update": ("forward, backward, update", "#0072B2", ""),
    "communication": ("exposed communication", "#F0E442", "//"),
    "data_wait": ("data wait", "#009E73", ".."),
    "evaluation": ("evaluation", "#CC79A7", "\\\\"),
    "guard": ("guard", "#56B4E9", "xx"),
    "checkpoint": ("checkpoint", "#D55E00", "++"),
    "start": ("start", "#DDDDDD", ""),
    "lost": ("lost", PAPER, "oo"),
    "other": ("other", "#999999", "--"),
}
"""PARTS of a run's time as they are stacked: name, colour, hatching."""


@dataclass(frozen=True)
class Picture:
    """One figure as files' contents; ``alt`` says in words what it shows."""

    name: str
    title: str
    alt: str
    light: str
    dark: str
    png: bytes


@dataclass(frozen=True)
class Plot:
    """A quantity against nodes."""

    name: str
    title: str
    y: str
    value: Callable[[Cell], float | None]
    say: str = "{:.3g}"
    percents: bool = False


def pictures(data: str, cells: Sequence[Cell]) -> list[Picture]:
    """The figures of one data set; what nothing is known of has none."""

    def of(choose: Callable[[Any], float]) -> Callable[[Cell], float | None]:
        return lambda cell: None if (found := gain(cell, cells)) is None else choose(found)

    plots = [
        Plot("ttra", "Time to robust accuracy", "seconds", lambda cell: cell.ttra, "{:.3g} s"),
        Plot("speed-up", "Speed-up", "times", of(lambda found: found.speed_up)),
        Plot("efficiency", "Efficiency", "of the ideal", of(lambda found: found.efficiency), "{:.0%}", True),
        Plot("epochs", "Epochs to the target", "epochs", lambda cell: cell.epochs),
        Plot("epoch-seconds", "Seconds per epoch, all told", "seconds", lambda cell: cell.seconds_per_epoch),
        Plot("throughput", "Training speed", "images/s, all ranks", lambda cell: cell.images_per_second, "{:,.0f}"),
    ]
    found = [
        _picture(f"{data}-{plot.name}", plot.title, _alt(cells, plot), partial(_draw, cells, plot))
        for plot in plots
        if any(plot.value(cell) is not None for cell in cells)
    ]
    known = [cell for cell in cells if cell.shares]
    if known:
        alt = "; ".join(f"{_short(cell)}: {_in_words(cell.shares)}" for cell in known)
        found.append(_picture(f"{data}-shares", "Where the time goes", alt, partial(_stack, known)))
    return found


def _picture(name: str, title: str, alt: str, draw: Callable[[], Figure]) -> Picture:
    settings: dict[Any, Any] = {
        "figure.facecolor": FACE, "axes.facecolor": FACE, "text.color": TEXT, "axes.labelcolor": TEXT,
        "axes.edgecolor": QUIET, "xtick.color": QUIET, "ytick.color": QUIET, "grid.color": RULE, "hatch.color": INK,
        "hatch.linewidth": 0.6, "font.size": 9.5, "legend.frameon": False, "svg.hashsalt": name,
    }  # fmt: skip
    svg, png = io.BytesIO(), io.BytesIO()
    with rc_context(settings):
        figure = draw()
        figure.savefig(svg, format="svg", metadata={"Date": None})
        figure.set_layout_engine("none")  # it is laid out
        figure.savefig(png, format="png", dpi=200)
    light = svg.getvalue().decode()
    dark = re.sub("|".join(DARK), lambda colour: DARK[colour[0]], light)
    return Picture(name, title, alt, light, dark, png.getvalue())


def _draw(cells: Sequence[Cell], plot: Plot) -> Figure:
    figure, axes = _axes(3.4)
    methods, all_series = _order(cells)
    for i, series in enumerate(all_series):
        own = [cell for cell in cells if cell.series == series]
        values = [math.nan if (y := plot.value(cell)) is None else y for cell in own]  # NaN: a gap in the line
        colour, marker = (of[methods.index(series[1]) % 4] for of in (COLOURS, MARKERS))
        face = colour if series[2] == "strong" else FACE
        axes.plot(
            [cell.nodes for cell in own], values, color=colour, marker=marker, markersize=6.5, markerfacecolor=face,
            linestyle=STYLES[i % 4], linewidth=1.7, label=in_figure(f"{series[1]}, {series[2]}", LONG), zorder=3,
        )  # fmt: skip
        if plot.name == "ttra":
            aside = 2 ** (0.14 * (i - (len(all_series) - 1) / 2))
            _runs(axes, own, aside, colour, marker)
    _scales(axes, cells, plot)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=9)
    return figure


def _runs(axes: Axes, cells: Iterable[Cell], aside: float, colour: str, marker: str) -> None:
    """Every run: a dot beside the mean, or a cross at the upper edge if it did not converge."""
    for cell in cells:
        x = cell.nodes * aside
        reached = [time_of(row) for row in cell.converged]
        axes.plot([x] * len(reached), reached, linestyle="", marker=marker, markersize=3, color=colour, alpha=0.65)
        for k in range(len(cell.ended) - len(reached)):
            axes.plot(
                x, 0.97 - 0.05 * k, linestyle="", marker="x", markersize=5, color=colour, clip_on=False,
                transform=axes.get_xaxis_transform(),
            )  # fmt: skip


def _scales(axes: Axes, cells: Sequence[Cell], plot: Plot) -> None:
    nodes = sorted({cell.nodes for cell in cells})
    axes.set_xscale("log", base=2)
    axes.set_xlim(nodes[0] / 1.35, nodes[-1] * 1.35)
    axes.xaxis.set_major_locator(FixedLocator(nodes[:: -(-len(nodes) // 7)]))  # more labels would overlap
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    axes.set_xlabel("nodes")
    axes.set_ylabel(plot.y)
    if plot.name in ("speed-up", "efficiency"):
        ideal = [n / nodes[0] if plot.name == "speed-up" else 1.0 for n in nodes]
        axes.plot(nodes, ideal, color=TEXT, linewidth=1, linestyle=":", label="ideal")
    low, high = axes.dataLim.y0, axes.dataLim.y1
    if plot.name == "speed-up":
        axes.set_yscale("log", base=2)
        axes.yaxis.set_major_locator(FixedLocator([n / nodes[0] for n in nodes]))
        axes.yaxis.set_minor_locator(NullLocator())
    elif low > 0 and high >= 10 * low:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.set_ylim(low / 1.3, high * 1.6)
    else:
        axes.set_ylim(0, high * 1.15)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{100 * y:g} %" if plot.percents else f"{y:,.6g}"))


def _stack(cells: Sequence[Cell]) -> Figure:
    figure, axes = _axes(1.5 + 0.27 * len(cells))
    for part, (label, colour, hatch) in SHARES.items():
        if not any(cell.shares[part] for cell in cells):
            continue
        before = list(SHARES)[: list(SHARES).index(part)]
        lefts = [sum(cell.shares[each] for each in before) for cell in cells]
        widths = [cell.shares[part] for cell in cells]
        bars = axes.barh(
            range(len(cells)), widths, 0.72, lefts, color=colour, hatch=hatch, label=label,
            edgecolor=INK, linewidth=0.5,
        )  # fmt: skip
        texts = [f"{100 * width:.0f}" if width >= 0.06 else "" for width in widths]
        for text in axes.bar_label(bars, texts, label_type="center", fontsize=8, color=INK):
            if text.get_text():
                text.set_bbox({"facecolor": PAPER, "edgecolor": "none", "pad": 0.8, "alpha": 0.85})
    axes.set_yticks(range(len(cells)), [in_figure(_short(cell), LONG) for cell in cells])
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{100 * x:g} %"))
    axes.set_xlabel("of the time until training ended")
    figure.legend(loc="outside lower center", ncols=2, fontsize=9)
    return figure


def _axes(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(4.4, height), layout="constrained")
    axes = figure.subplots()
    axes.grid(visible=True, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _order(cells: Sequence[Cell]) -> tuple[list[str], list[tuple[str, str, str]]]:
    """Methods and series, each once: their places choose marker, colour and line."""
    return sorted({cell.key[1] for cell in cells}), sorted({cell.series for cell in cells})


def _short(cell: Cell) -> str:
    return f"{cell.key[1]}, {cell.key[2]}, {cell.nodes}"


def _alt(cells: Sequence[Cell], plot: Plot) -> str:
    series: dict[str, list[str]] = {}
    for cell in cells:
        value = plot.value(cell)
        words = "no result" if value is None else plot.say.format(value)
        series.setdefault(f"{cell.key[1]}, {cell.key[2]} scaling", []).append(f"{count(cell.nodes, 'node')} {words}")
    return "; ".join(f"{name}: {', '.join(words)}" for name, words in series.items())


def _in_words(shares: dict[str, float]) -> str:
    return ", ".join(f"{label} {percent(shares[part])}" for part, (label, *_) in SHARES.items() if shares[part])
