"""Which charts a report has, and what is in them."""

from dataclasses import replace
from functools import partial

from hpcfast.report.charts import Back, Chart, Line, Sample
from hpcfast.report.history import Point
from hpcfast.report.runs import Record

_over_epochs = partial(Chart, x_label="epoch", lines=[])
OF_IMAGES = "of validation images"
GUARD = "accuracy: strong attack (solid), training attack (dashed)"

CHARTS = {
    ("robust_accuracy",): _over_epochs("Robust accuracy, monitor", y_label=OF_IMAGES, fractions=True),
    ("clean_accuracy",): _over_epochs("Clean accuracy, monitor", y_label=OF_IMAGES, fractions=True),
    ("strong", "seen"): _over_epochs("What the guard saw", y_label=GUARD, fractions=True),
    ("alignment",): _over_epochs("Gradient alignment", y_label="mean cosine"),
    ("train_loss",): _over_epochs("Training loss", y_label="mean over ranks and steps", from_zero=False),
    ("zero_gradients",): _over_epochs(
        "Input gradients that vanished", y_label="of the attack's gradients", fractions=True
    ),
    ("learning_rate",): _over_epochs("Learning rate", y_label="after warm-up and scaling"),
    ("images_per_second",): _over_epochs("Training speed", y_label="images/s, all ranks"),
    ("skipped_steps",): _over_epochs("Steps skipped by loss scaling", y_label="steps so far"),
}
"""By the keys of their curves, of which all but the first are dashed."""
NAMES = {"strong": ", strong attack", "seen": ", training attack"}
"""Curves that share a chart."""


def over_epochs(records: list[Record]) -> list[Chart]:
    """A chart for each quantity that any of the runs has recorded."""
    backs = [
        Back(i, start, end, f"{record.name}: rollback from epoch {start:.4g} to {end:.4g}, resumed with {attack}")
        for i, record in enumerate(records)
        for start, end, attack in record.history.rollbacks
    ]
    end = max(record.history.epoch for record in records)
    looks = [(i, epoch) for i, record in enumerate(records) for epoch in record.history.looks]
    charts = []
    for keys, chart in CHARTS.items():
        lines = [
            Line(i, record.name + NAMES.get(key, ""), _samples(curve.kept), [_samples(part) for part in curve.undone],
                 dashed=key != keys[0])
            for i, record in enumerate(records)
            for key in keys
            if (curve := record.history.curves.get(key))
        ]  # fmt: skip
        if lines:
            charts.append(replace(chart, lines=lines, end=end, backs=backs, looks=looks))
    return charts


def over_eps(records: list[Record]) -> list[Chart]:
    """Robust accuracy against the size of the ball, a chart for each norm that was evaluated so."""
    lines: dict[str, list[Line]] = {}
    for i, record in enumerate(records):
        evaluations = [(name, result) for name, result in record.evaluations.items() if result.get("curve")]
        for j, (name, result) in enumerate(evaluations):
            curve = sorted(result["curve"], key=lambda row: row["eps"])
            samples = [Sample(row["eps"], row["robust_accuracy"], f"eps {row['eps']:.4g}") for row in curve]
            band = [(row["eps"], *row["ci95"]) for row in curve if "ci95" in row]
            label = record.name if len(evaluations) == 1 else f"{record.name}, {name}"
            lines.setdefault(result["attack"]["norm"], []).append(Line(i, label, samples, [], j > 0, band))
    return [
        Chart(f"Robust accuracy against eps, {norm}", f"eps ({norm}, pixels in [0,1])", "of images", found,
              fractions=True)
        for norm, found in sorted(lines.items())
    ]  # fmt: skip


def _samples(points: list[Point]) -> list[Sample]:
    return [Sample(point.epoch, point.value, f"epoch {point.epoch:.4g}, step {point.step}") for point in points]
