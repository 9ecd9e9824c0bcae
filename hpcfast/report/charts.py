"""Line charts as geometry, which templates/chart.svg.j2 writes as inline SVG.

Own code and not matplotlib's, because the page's style sheet must colour the lines (light, dark, print), the text must
stay text, and values are shown where the mouse or the arrow keys point. Matplotlib does choose the ticks.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from matplotlib.ticker import MaxNLocator

from hpcfast.report.format import percent

LEFT, RIGHT, TOP, BOTTOM = 50, 368, 36, 204
"""Edges of the plot inside 380 x 240."""
LANES = 3
"""Heights above the plot for arrows back, so that those of different runs don't hide each other."""
MOST_POINTS = 300
"""A line gets; more than its pixels cannot show."""
MARKED = 40
"""Up to so many points have a marker each."""


@dataclass(frozen=True)
class Sample:
    """A point of a line, in units of the axes, and where it was measured, in words."""

    x: float
    y: float
    where: str


@dataclass(frozen=True)
class Line:
    """One quantity of one run."""

    run: int
    """Chooses colour and marker."""
    name: str
    samples: list[Sample]
    undone: list[list[Sample]] = field(default_factory=list)
    """Drawn faint, with a cross where each was given up."""
    dashed: bool = False
    band: list[tuple[float, float, float]] = field(default_factory=list)
    """An interval of y: (x, low, high)."""


@dataclass(frozen=True)
class Back:
    """An arrow back: a rollback of ``run``."""

    run: int
    start: float
    end: float
    title: str


class Axis:
    """Maps values onto pixels from ``start`` to ``end``, and has round ticks."""

    def __init__(self, values: Iterable[float], start: float, end: float, tight: bool) -> None:
        low, high = min(values), max(values)
        if low == high:  # as much room as the value itself is large
            low, high = min(low, 0.0), max(low, 0.0) or 1.0
        ticks = [float(tick) for tick in MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)]
        self.low, self.high = (low, high) if tight and low < high else (ticks[0], ticks[-1])
        self.start, self.end = start, end
        slack = 1e-9 * (self.high - self.low)
        self.ticks = [tick for tick in ticks if self.low - slack <= tick <= self.high + slack]

    def __call__(self, value: float) -> float:
        part = (value - self.low) / (self.high - self.low)
        return round(self.start + part * (self.end - self.start), 1)


class DrawnLine(NamedTuple):
    """A line in pixels: SVG path data."""

    path: str
    markers: str
    undone: list[str]
    crosses: str
    band: str
    points: str
    """JSON for script.js: [[x, y, where, value], ...]."""


@dataclass(frozen=True)
class Chart:
    """Lines with at least one sample, over two axes in pixels."""

    title: str
    x_label: str
    y_label: str
    lines: list[Line]
    end: float = 0.0
    """The x axis goes from 0 to here at least."""
    fractions: bool = False
    """Shown as percentages."""
    from_zero: bool = True
    backs: list[Back] = field(default_factory=list)
    looks: list[tuple[int, float]] = field(default_factory=list)
    """Ticks on the x axis: (run, x)."""

    @cached_property
    def x(self) -> Axis:
        return Axis([0.0, self.end, *(sample.x for sample in self._samples)], LEFT, RIGHT, tight=True)

    @cached_property
    def y(self) -> Axis:
        bounds = [bound for line in self.lines for _, *pair in line.band for bound in pair]
        values = [*(sample.y for sample in self._samples), *bounds, *[0.0] * self.from_zero]
        return Axis(values, BOTTOM, TOP, tight=False)

    @property
    def _samples(self) -> list[Sample]:
        return [sample for line in self.lines for part in (line.samples, *line.undone) for sample in part]

    @property
    def x_ticks(self) -> list[tuple[float, str]]:
        return [(self.x(tick), f"{tick:g}") for tick in self.x.ticks]

    @property
    def y_ticks(self) -> list[tuple[float, str]]:
        def label(tick: float) -> str:
            if self.fractions:
                return f"{100 * tick:g} %"
            return f"{tick:,.0f}" if abs(tick) >= 1000 else f"{round(tick, 10):g}"

        return [(self.y(tick), label(tick)) for tick in self.y.ticks]

    @property
    def lanes(self) -> list[tuple[Back, float]]:
        """The arrows back, each with its height."""
        runs = sorted({back.run for back in self.backs})
        return [(back, TOP - 6 - 5 * (runs.index(back.run) % LANES)) for back in self.backs]

    @property
    def description(self) -> str:
        """For who cannot see it."""
        return " ".join(self._describe(line) for line in self.lines)

    def draw(self, line: Line) -> DrawnLine:
        """One of the lines in pixels."""
        kept, undone = thinned(line.samples), [thinned(part) for part in line.undone]
        words = [(each, "") for each in kept] + [(each, ", undone") for part in undone for each in part]
        edge = [(x, high) for x, _, high in line.band] + [(x, low) for x, low, _ in reversed(line.band)]
        return DrawnLine(
            path=_path(self._pixels(kept)),
            markers="".join(marker(line.run, *point) for point in self._pixels(kept[-1:] if kept[MARKED:] else kept)),
            # from where the run went back to, if something is left of that
            undone=[_path(self._pixels([*[s for s in kept if s.x < part[0].x][-1:], *part])) for part in undone],
            crosses="".join(
                f"M{a - 3:g},{b - 3:g}l6,6m0,-6l-6,6" for part in undone for a, b in self._pixels(part[-1:])
            ),
            band=_path([(self.x(x), self.y(y)) for x, y in edge]),
            points=json.dumps([[*self._pixels([s])[0], s.where + note, self._say(s.y)] for s, note in words]),
        )

    def _pixels(self, samples: list[Sample]) -> list[tuple[float, float]]:
        return [(self.x(sample.x), self.y(sample.y)) for sample in samples]

    def _say(self, y: float) -> str:
        return percent(y) if self.fractions else f"{y:,.0f}" if abs(y) >= 1000 else f"{y:.4g}"

    def _describe(self, line: Line) -> str:
        if not line.samples:
            return f"{line.name}: all of it was undone."
        start, end = (f"{self._say(sample.y)} at {sample.where}" for sample in (line.samples[0], line.samples[-1]))
        back = f" Undone by rollbacks: {len(line.undone)}." if line.undone else ""
        return f"{line.name}: {f'{start}, ' if len(line.samples) > 1 else ''}{end}.{back}"


def thinned(samples: list[Sample]) -> list[Sample]:
    """At most ``MOST_POINTS``: of each stretch of a long line its lowest, its highest and its last point."""
    if len(samples) <= MOST_POINTS:
        return samples
    size = -(-3 * len(samples) // MOST_POINTS)
    kept: set[int] = set()
    for start in range(0, len(samples), size):
        stretch = range(start, min(start + size, len(samples)))
        kept |= {choose(stretch, key=lambda i: samples[i].y) for choose in (min, max)} | {stretch[-1]}
    return [samples[i] for i in sorted(kept)]


def _path(points: list[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{a:g},{b:g}" for a, b in points) if points else ""


def marker(run: int, x: float, y: float) -> str:
    """A shape besides the colour, for who cannot tell colours apart."""
    return (
        f"M{x - 3:g},{y:g}a3,3 0 1,0 6,0a3,3 0 1,0 -6,0z",
        f"M{x - 3:g},{y - 3:g}h6v6h-6z",
        f"M{x:g},{y - 4:g}l4,7h-8z",
        f"M{x:g},{y - 4:g}l4,4l-4,4l-4,-4z",
    )[run % 4]
