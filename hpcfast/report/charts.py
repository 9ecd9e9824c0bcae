"""Line charts as geometry, which templates/chart.svg.j2 writes as inline SVG.

Own code and not matplotlib's, because the page's style sheet must colour the lines (light, dark, print), the text must
stay text, and values are shown where the mouse or the arrow keys point. Matplotlib does choose the ticks.
"""

import json
from dataclasses import dataclass, field

from matplotlib.ticker import MaxNLocator

from hpcfast.report.format import percent

WIDTH, HEIGHT = 380, 240
LEFT, RIGHT, TOP, BOTTOM = 50, 368, 36, 204
"""Edges of the plot inside WIDTH x HEIGHT."""
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


@dataclass(frozen=True)
class Chart:
    """What to draw."""

    title: str
    x: str
    y: str
    lines: list[Line]
    end: float = 0.0
    """The x axis goes from 0 to here at least."""
    fractions: bool = False
    """Shown as percentages."""
    from_zero: bool = True
    backs: list[Back] = field(default_factory=list)
    looks: list[tuple[int, float]] = field(default_factory=list)
    """Ticks on the x axis: (run, x)."""

    def say(self, y: float) -> str:
        return percent(y) if self.fractions else f"{y:,.0f}" if abs(y) >= 1000 else f"{y:.4g}"


class Axis:
    """Maps values onto pixels from ``start`` to ``end``, and has round ticks."""

    def __init__(self, values: list[float], start: float, end: float, tight: bool) -> None:
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


@dataclass(frozen=True)
class DrawnLine:
    """A line in pixels: SVG path data."""

    line: Line
    path: str
    markers: str
    undone: list[str]
    crosses: str
    band: str
    points: str
    """JSON for script.js: [[x, y, where, value], ...]."""


@dataclass(frozen=True)
class Drawing:
    """A chart in pixels."""

    chart: Chart
    x: Axis
    y: Axis
    lines: list[DrawnLine]
    backs: list[tuple[Back, float]]
    """Each with its height."""
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    description: str
    """For who cannot see it."""


def draw(chart: Chart) -> Drawing:
    """Lay out a chart that has at least one sample."""
    samples = [each for line in chart.lines for part in (line.samples, *line.undone) for each in part]
    bounds = [bound for line in chart.lines for _, *pair in line.band for bound in pair]
    zero = [0.0] if chart.from_zero else []
    runs = sorted({back.run for back in chart.backs})
    x = Axis([0.0, chart.end, *(each.x for each in samples)], LEFT, RIGHT, tight=True)
    y = Axis([*(each.y for each in samples), *bounds, *zero], BOTTOM, TOP, tight=False)
    return Drawing(
        chart=chart,
        x=x,
        y=y,
        lines=[_draw(chart, line, x, y) for line in chart.lines],
        backs=[(back, TOP - 6 - 5 * (runs.index(back.run) % LANES)) for back in chart.backs],
        x_ticks=[(x(tick), f"{tick:g}") for tick in x.ticks],
        y_ticks=[(y(tick), _tick(tick, chart.fractions)) for tick in y.ticks],
        description=" ".join(_describe(chart, line) for line in chart.lines),
    )


def _draw(chart: Chart, line: Line, x: Axis, y: Axis) -> DrawnLine:
    def pixels(samples: list[Sample]) -> list[tuple[float, float]]:
        return [(x(each.x), y(each.y)) for each in samples]

    kept, undone = thinned(line.samples), [thinned(part) for part in line.undone]
    marked = kept if len(kept) <= MARKED else kept[-1:]
    words = [(each, "") for each in kept] + [(each, ", undone") for part in undone for each in part]
    points = [[x(each.x), y(each.y), each.where + note, chart.say(each.y)] for each, note in words]
    edge = [(x(at), y(high)) for at, _, high in line.band] + [(x(at), y(low)) for at, low, _ in reversed(line.band)]
    return DrawnLine(
        line=line,
        path=_path(pixels(kept)),
        markers="".join(_marker(line.run, *point) for point in pixels(marked)),
        # from where the run went back to, if something is left of that
        undone=[_path(pixels([*[each for each in kept if each.x < part[0].x][-1:], *part])) for part in undone],
        crosses="".join(f"M{a - 3:g},{b - 3:g}l6,6m0,-6l-6,6" for part in undone for a, b in pixels(part[-1:])),
        band=_path(edge),
        points=json.dumps(points),
    )


def thinned(samples: list[Sample]) -> list[Sample]:
    """At most ``MOST_POINTS``: of each stretch of a long line its lowest, its highest and its last point."""
    if len(samples) <= MOST_POINTS:
        return samples
    size = -(-3 * len(samples) // MOST_POINTS)
    kept: set[int] = set()
    for start in range(0, len(samples), size):
        stretch = range(start, min(start + size, len(samples)))
        lowest, highest = (choose(stretch, key=lambda i: samples[i].y) for choose in (min, max))
        kept |= {lowest, highest, stretch[-1]}
    return [samples[i] for i in sorted(kept)]


def _path(points: list[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{a:g},{b:g}" for a, b in points) if points else ""


def _marker(run: int, x: float, y: float) -> str:
    """A shape besides the colour, for who cannot tell colours apart."""
    return (
        f"M{x - 3:g},{y:g}a3,3 0 1,0 6,0a3,3 0 1,0 -6,0z",
        f"M{x - 3:g},{y - 3:g}h6v6h-6z",
        f"M{x:g},{y - 4:g}l4,7h-8z",
        f"M{x:g},{y - 4:g}l4,4l-4,4l-4,-4z",
    )[run % 4]


def swatch(run: int) -> str:
    """The marker of a run for the legend, centred in 24 x 12."""
    return _marker(run, 12, 6)


def _tick(value: float, as_percent: bool) -> str:
    if as_percent:
        return f"{100 * value:g} %"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{round(value, 10):g}"


def _describe(chart: Chart, line: Line) -> str:
    if not line.samples:
        return f"{line.name}: all of it was undone."
    first, last = line.samples[0], line.samples[-1]
    start = f"{chart.say(first.y)} at {first.where}, " if first is not last else ""
    back = f" Undone by rollbacks: {len(line.undone)}." if line.undone else ""
    return f"{line.name}: {start}{chart.say(last.y)} at {last.where}.{back}"
