"""Line charts: how runs went over their epochs, and how robust they are in larger balls."""

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from hpcfast.report.history import Point
from hpcfast.report.runs import Record
from hpcfast.runs import plot

MARKED = 40
"""Points of a line that have a marker, and their value under the mouse; eight times as many are drawn."""
ALL_MARKED = 360
"""Of all lines on a page over epochs: fewer of each where there are many, so that the page stays small."""
OVER_EPOCHS = {
    ("robust_accuracy", "clean_accuracy"): ("Accuracy, monitor", "robust (solid), clean (dashed)", True),
    ("strong", "seen"): ("What the guard saw", "accuracy: strong attack (solid), training attack (dashed)", True),
    ("alignment",): ("Gradient alignment", "mean cosine", False),
    ("train_loss",): ("Training loss", "mean over ranks and steps", False),
    ("zero_gradients",): ("Input gradients that vanished", "of the attack's gradients", True),
    ("learning_rate",): ("Learning rate", "after warm-up and scaling", False),
    ("skipped_steps",): ("Steps skipped by loss scaling", "steps so far", False),
}
"""By the keys of its curves, of which the second is dashed: a chart's title, its y, and whether that is a fraction."""


class Chart(NamedTuple):
    """What a chart is of, and its SVG element."""

    title: str
    y: str
    svg: str
    description: str
    """For who cannot see it."""


class Sample(NamedTuple):
    """A point of a line, and where it was measured, in words."""

    x: float
    y: float
    where: str


class Line(NamedTuple):
    """One quantity of one run, whose number chooses the colour."""

    run: int
    name: str
    samples: list[Sample]
    style: str = "-"


def over_epochs(records: list[Record]) -> list[Chart]:
    """A chart for each quantity that any of the runs has recorded."""
    end = max(record.history.epoch for record in records)
    planned = []
    for keys, (title, y, fractions) in OVER_EPOCHS.items():
        lines = []
        for i, record in enumerate(records):
            for key, style in zip(keys, ("-", "--"), strict=False):
                name, kept = f"{record.name}, {key.replace('_', ' ')}", record.history.kept.get(key, [])
                if kept:
                    lines.append(Line(i, name, _samples(kept), style))
                for part in (each[key] for each in record.history.undone if key in each):
                    before = [point for point in kept if point.step < part[0].step][-1:]  # where the run went back to
                    lines.append(Line(i, f"{name}, undone", _samples(before + part), ":"))
        if lines:
            planned.append((title, y, fractions, lines))
    marked = max(8, min(MARKED, ALL_MARKED // max(1, sum(len(lines) for *_, lines in planned))))
    return [_draw(title, "epoch", y, fractions, lines, end, marked) for title, y, fractions, lines in planned]


def over_eps(records: list[Record]) -> list[Chart]:
    """Robust accuracy against the size of the ball, a chart for each norm that was evaluated so."""
    lines: dict[str, list[Line]] = {}
    for i, record in enumerate(records):
        for name, result in record.evaluations.items():
            if len(result.get("curve") or ()) > 1:
                curve = sorted(result["curve"], key=lambda row: row["eps"])
                samples = [Sample(row["eps"], row["robust_accuracy"], f"eps {row['eps']:.4g}") for row in curve]
                own = lines.setdefault(result["attack"]["norm"], [])
                style = "--" if any(line.run == i for line in own) else "-"
                own.append(Line(i, f"{record.name}, {name}", samples, style))
    return [
        _draw(f"Robust accuracy against eps, {norm}", f"eps ({norm}, pixels in [0,1])", "of images", True, found)
        for norm, found in sorted(lines.items())
    ]


def _samples(points: Sequence[Point]) -> list[Sample]:
    return [Sample(point.epoch, point.value, f"epoch {point.epoch:.4g}, step {point.step}") for point in points]


def _draw(
    title: str, x: str, y: str, fractions: bool, lines: list[Line], end: float = 0.0, marked: int = MARKED
) -> Chart:
    """A chart from 0 to ``end`` at least; at ``marked`` points of a line stands its value."""

    def say(line: Line, sample: Sample) -> str:
        return f"{line.name}: {f'{sample.y:.1%}' if fractions else f'{sample.y:.4g}'} ({sample.where})"

    def figure() -> Figure:
        figure = Figure(figsize=(4.2, 2.7))
        axes = figure.add_axes((0.13, 0.16, 0.84, 0.8))
        for line in lines:
            colour = plot.RUNS[line.run % len(plot.RUNS)]
            drawn, named = _spread(line.samples, 8 * marked), _spread(line.samples, marked)
            axes.plot([s.x for s in drawn], [s.y for s in drawn], line.style, color=colour, linewidth=1.5)
            axes.scatter(
                [s.x for s in named], [s.y for s in named], s=14, color=colour, clip_on=False, zorder=3,
                urls=[say(line, sample) for sample in named],
            )  # fmt: skip
        axes.set_xlim(0, max(end, *(sample.x for line in lines for sample in line.samples)) or 1)
        axes.set_ylim(bottom=min(0.0, *(sample.y for line in lines for sample in line.samples)))
        if fractions:
            axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.set_xlabel(x)
        axes.grid(axis="y")
        axes.spines[["top", "right", "left"]].set_visible(False)
        return figure

    last = [say(line, line.samples[-1]) for line in lines]
    return Chart(title, y, plot.inline(figure), f"{title}; {'; '.join(last)}")


def _spread(samples: list[Sample], most: int) -> list[Sample]:
    """At most so many, evenly spread, the last among them."""
    step = -(-len(samples) // most) or 1
    return samples[::-step][::-1]
