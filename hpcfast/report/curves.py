"""Which charts a report has, and what is in them."""

from dataclasses import dataclass

from hpcfast.report.charts import Back, Chart, Line, Sample
from hpcfast.report.history import Point
from hpcfast.report.runs import Record


@dataclass(frozen=True)
class Plan:
    """A chart over epochs: the curves of these keys, of which all but the first are dashed."""

    title: str
    y: str
    keys: dict[str, str]
    """Key of the curve, and what to call it where there are several."""
    fractions: bool = False
    from_zero: bool = True


PLANS = (
    Plan("Robust accuracy, monitor", "of validation images", {"robust_accuracy": ""}, fractions=True),
    Plan("Clean accuracy, monitor", "of validation images", {"clean_accuracy": ""}, fractions=True),
    Plan(
        "What the guard saw",
        "accuracy: strong attack (solid), training attack (dashed)",
        {"strong": "strong attack", "seen": "training attack"},
        fractions=True,
    ),
    Plan("Gradient alignment", "mean cosine", {"alignment": ""}),
    Plan("Training loss", "mean over ranks and steps", {"train_loss": ""}, from_zero=False),
    Plan("Input gradients that vanished", "of the attack's gradients", {"zero_gradients": ""}, fractions=True),
    Plan("Learning rate", "after warm-up and scaling", {"learning_rate": ""}),
    Plan("Training speed", "images/s, all ranks", {"images_per_second": ""}),
    Plan("Steps skipped by loss scaling", "steps so far", {"skipped_steps": ""}),
)


def over_epochs(records: list[Record]) -> list[Chart]:
    """A chart for each quantity that any of the runs has recorded."""
    backs = [
        Back(i, back.from_epoch, back.to_epoch, _say(record, back.from_epoch, back.to_epoch, back.attack))
        for i, record in enumerate(records)
        for back in record.history.rollbacks
    ]
    end = max(record.history.epoch for record in records)
    looks = [(i, epoch) for i, record in enumerate(records) for epoch in record.history.looks]
    charts = []
    for plan in PLANS:
        lines = [line for i, record in enumerate(records) for line in _lines(i, record, plan)]
        if lines:
            charts.append(Chart(plan.title, "epoch", plan.y, lines, end, plan.fractions, plan.from_zero, backs, looks))
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
        Chart(
            f"Robust accuracy against eps, {norm}", f"eps ({norm}, pixels in [0,1])", "of images", found, fractions=True
        )
        for norm, found in sorted(lines.items())
    ]


def _lines(i: int, record: Record, plan: Plan) -> list[Line]:
    found = []
    for key, name in plan.keys.items():
        curve = record.history.curves.get(key)
        if curve:
            label = f"{record.name}, {name}" if name else record.name
            undone = [_samples(part) for part in curve.undone]
            found.append(Line(i, label, _samples(curve.kept), undone, dashed=key != next(iter(plan.keys))))
    return found


def _samples(points: list[Point]) -> list[Sample]:
    return [Sample(point.epoch, point.value, f"epoch {point.epoch:.4g}, step {point.step}") for point in points]


def _say(record: Record, start: float, end: float, attack: str) -> str:
    return f"{record.name}: rollback from epoch {start:.4g} to {end:.4g}, on with {attack}"
