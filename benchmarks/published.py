"""The predictor against public scaling tables: fed their small ends, it must predict their large ends.

``python -m benchmarks.published`` prints the errors, of which docs/scaling-predict.md has the table.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from hpcfast.scaling.predict import epochs as law
from hpcfast.scaling.predict import steps
from hpcfast.scaling.predict.epochs import Reached
from hpcfast.scaling.predict.steps import Point

IMAGENET = 1_281_167
"""Training images of ImageNet, which all tables are about."""


@dataclass(frozen=True)
class Curve:
    """A table: its name and source, in words, and step times, few ranks first; those of efficiencies are relative."""

    name: str
    source: str
    date: str
    points: tuple[Point, ...]
    epochs: tuple[Reached, ...]
    """To the target by global batch, where the table has them."""

    @property
    def small(self) -> tuple[Point, ...]:
        """The half with the fewer ranks, at least two points: what the predictor is given."""
        return self.points[: max(2, len(self.points) // 2)]

    @property
    def large(self) -> tuple[Point, ...]:
        """The others, which it must predict."""
        return self.points[len(self.small) :]


@dataclass(frozen=True)
class Check:
    """Step times of a curve's large end: measured, predicted, the range of what is believable, and without any loss."""

    curve: Curve
    point: Point
    predicted: float
    low: float
    high: float
    perfect: float
    """What is predicted by assuming that an image takes as long as on the fewest ranks."""

    @property
    def error(self) -> float:
        """Relative, of the step time."""
        return self.predicted / self.point.seconds - 1


@dataclass(frozen=True)
class EpochsCheck:
    """Epochs to the target at the largest batch: measured, and predicted from the smaller ones."""

    batch: int
    measured: float
    predicted: float

    @property
    def error(self) -> float:
        """Relative."""
        return self.predicted / self.measured - 1


@cache
def curves() -> tuple[Curve, ...]:
    """All of published.yaml, in its order."""
    text = Path(__file__).with_suffix(".yaml").read_text()
    return tuple(
        Curve(
            entry["name"],
            entry["source"],
            str(entry["date"]),
            tuple(_point(entry["measured"], *point) for point in entry["points"]),
            tuple(Reached(p[0] * p[1], p[2][1]) for p in entry["points"] if entry["measured"] == "seconds, epochs"),
        )
        for entry in yaml.safe_load(text)
    )


def _point(unit: str, ranks: int, batch: int, measured: Any) -> Point:
    if unit == "images/s":
        seconds = ranks * batch / measured
    elif unit == "efficiency":
        seconds = 1 / measured
    else:
        seconds = measured[0] / measured[1] / math.ceil(IMAGENET / (ranks * batch))
    return Point(ranks, batch, seconds)


def check(chosen: Sequence[Curve] | None = None) -> list[Check]:
    """Fit each curve's small end, predict its large end; one rule for all curves."""
    results = []
    for curve in curves() if chosen is None else chosen:
        models = steps.believable(curve.small)
        for point in curve.large:
            seconds = [model.seconds(point.ranks, point.batch) for model in models]
            first = curve.points[0]
            perfect = first.seconds * point.batch / first.batch
            results.append(Check(curve, point, seconds[0], min(seconds), max(seconds), perfect))
    return results


def epochs() -> EpochsCheck:
    """The same for the epochs of MLPerf's runs, by batch."""
    (runs,) = (curve.epochs for curve in curves() if curve.epochs)
    largest = max(runs, key=lambda run: run.batch)
    predicted = law.fit([run for run in runs if run is not largest]).at(largest.batch)
    return EpochsCheck(largest.batch, largest.epochs, predicted or math.nan)


def main() -> None:
    """Print all errors."""
    checks = check()
    print("| table | fitted up to | predicted | error | perfect scaling | believable |\n|---|---|---|---|---|---|")
    for each in checks:
        perfect, low, high = (value / each.point.seconds - 1 for value in (each.perfect, each.low, each.high))
        ranks = f"{each.curve.small[-1].ranks} | {each.point.ranks}"
        print(f"| {each.curve.name} | {ranks} | {each.error:+.1%} | {perfect:+.1%} | {low:+.0%} to {high:+.0%} |")
    worst = max(checks, key=lambda one: abs(one.error))
    mean = sum(abs(one.error) for one in checks) / len(checks)
    print(f"\nmean error {mean:.1%}, worst {worst.error:+.1%} ({worst.curve.name}), n = {len(checks)}")
    growth = epochs()
    print(f"epochs at a batch of {growth.batch:,}: predicted {growth.predicted:.1f}, measured {growth.measured:g}")


if __name__ == "__main__":
    main()
