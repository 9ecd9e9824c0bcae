"""Time to robust accuracy, efficiency and cost at node counts that were not measured, and how wrong they may be."""

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from statistics import fmean

from hpcfast.errors import UserError
from hpcfast.report.format import Table, duration, percent, short_time
from hpcfast.runs.names import in_markdown
from hpcfast.scaling import tables
from hpcfast.scaling.collect import Row
from hpcfast.scaling.predict import steps
from hpcfast.scaling.predict.model import Failures, Model, fit, point, usable
from hpcfast.scaling.study import Scaling

GAIN = 0.1
"""A doubling of the nodes that saves less time than this is not worth it: there is the knee."""


def _time(seconds: float) -> str:
    return duration(seconds) if math.isfinite(seconds) else "never"


COLUMNS: dict[str, tuple[str, Callable[[float], str]]] = {
    "nodes": ("nodes", "{:,}".format),
    "global_batch": ("global batch", "{:,}".format),
    "step": ("step", short_time),
    "epochs": ("epochs", tables.number),
    "ttra": ("time to target", _time),
    "low": ("at least", _time),
    "high": ("at most", _time),
    "measured": ("measured", _time),
    "speedup": ("speed-up", tables.number),
    "efficiency": ("efficiency", percent),
    "node_hours": ("node time", lambda hours: duration(3600 * hours)),
    "cost": ("cost", tables.money),
    "with_failures": ("with failures", _time),
    "checkpoint_every": ("checkpoint every", _time),
}
"""What is predicted of a node count: its heading, and how it is said. Times are in seconds."""


@dataclass(frozen=True)
class Forecast:
    """Predictions for one data set, method and way of scaling."""

    title: str
    rows: list[dict[str, float | None]]
    """A node count each, with the keys of COLUMNS; None: not known, or not asked."""
    held_out: dict[int, float]
    """By node count that was left out of the fit: the time that the others predict over the measured one, minus 1."""
    knee: int | None
    """The first of 1, 2, 4, … nodes whose doubling makes the run less than GAIN shorter."""
    notes: list[str]

    def table(self) -> Table:
        """A row a node count."""
        headings = "|".join(f"#{heading}" for heading, _ in COLUMNS.values())
        rows = [[tables.known(row[key], say) for key, (_, say) in COLUMNS.items()] for row in self.rows]
        return tables.table(self.title, headings, rows)


def forecasts(
    rows: Sequence[Row], nodes: Sequence[int], price: float | None = None, failing: Failures | None = None
) -> tuple[list[Forecast], list[str]]:
    """Predict all that a study's ``rows`` allow; also say, in words, for what they don't.

    ``price`` is that of a node-hour; without ``failing`` no node fails.

    Raises:
        UserError: they allow nothing.
    """
    found: list[Forecast] = []
    refused: list[str] = []
    for data, method, scaling in dict.fromkeys((row.data, row.method, row.scaling) for row in rows):
        group = [row for row in rows if (row.data, row.method) == (data, method)]
        title = f"{data}, {method}, {scaling} scaling"
        try:
            found.append(_forecast(title, group, scaling, sorted(set(nodes)), price, failing))
        except UserError as error:
            crowded = any(row.shares for row in group)
            aside = "; runs whose ranks shared cores or GPUs do not count" if crowded else ""
            refused.append(f"{title}: {error}{aside}")
    if not found:
        raise UserError("nothing can be predicted\n" + "\n".join(f"  {line}" for line in refused or ["no runs"]))
    return found, refused


def _forecast(
    title: str, group: list[Row], scaling: Scaling, nodes: list[int], price: float | None, failing: Failures | None
) -> Forecast:
    rows = usable(group)
    best = fit(rows, scaling)
    impossible = [n for n in nodes if best.why_not(n)]
    if len(impossible) == len(nodes):
        raise UserError(best.why_not(nodes[0]))
    met = [row for row in rows if row.scaling == scaling and row.status == "converged"]
    measured = {n: fmean(row.time for row in met if row.nodes == n) for n in dict.fromkeys(row.nodes for row in met)}
    held = {}
    for n, seconds in measured.items():
        with suppress(UserError):  # of too few node counts none can be left out
            held[n] = fit([row for row in rows if row.nodes != n], scaling).ttra(n) / seconds - 1
    held = {n: error for n, error in held.items() if math.isfinite(error)}
    slack = max(map(abs, held.values()), default=math.nan)
    models = [replace(best, steps=each) for each in steps.believable([point(row) for row in rows])]
    base = min(row.nodes for row in rows if row.scaling == scaling)
    possible = [n for n in nodes if n not in impossible]
    found = [_row(n, base, models, slack, price, failing) | {"measured": measured.get(n)} for n in possible]
    doublings = (2**i for i in range(nodes[-1].bit_length()))
    knee = next((n for n in doublings if best.ttra(2 * n) > (1 - GAIN) * best.ttra(n)), None)
    crowded = {row.nodes for row in group if row.scaling == scaling and row.shares}
    return Forecast(title, found, held, knee, _notes(best, held, knee, crowded, impossible))


def _row(
    nodes: int, base: int, models: list[Model], slack: float, price: float | None, failing: Failures | None
) -> dict[str, float | None]:
    best, times = models[0], [model.ttra(nodes) for model in models]
    ttra, batch = times[0], best.global_batch(nodes)
    speedup, hours = best.ttra(base) / ttra, nodes * ttra / 3600
    return {
        "nodes": nodes, "global_batch": batch, "step": best.step(nodes), "epochs": best.epochs.at(batch), "ttra": ttra,
        "low": None if math.isnan(slack) else min(times) / (1 + slack),
        "high": None if math.isnan(slack) else max(times) * (1 + slack),
        "speedup": speedup, "efficiency": speedup * base / nodes, "node_hours": hours,
        "cost": None if price is None else price * hours,
        "with_failures": failing.expected(nodes, ttra) if failing else None,
        "checkpoint_every": failing.interval(nodes) if failing else None,
    }  # fmt: skip


def _notes(
    model: Model, held: dict[int, float], knee: int | None, crowded: set[int], impossible: list[int]
) -> list[str]:
    """What belongs under the table: the fit, its error, the knee."""
    epochs, noise = model.epochs, model.epochs.noise
    terms = ", ".join(f"{name} {short_time(seconds)}" for name, seconds in model.steps.coefficients.items())
    scale = "unknown" if noise is None else f"{noise:,.0f} images"
    errors = ", ".join(f"{nodes:,}: {error:+.1%}" for nodes, error in sorted(held.items()))
    worth = f"at {knee}, twice as many nodes save less than {GAIN:.0%} of the time"
    lines = [
        f"step time: {terms}",
        f"epochs: {epochs.least:.3g} at least, noise scale {scale} ({epochs.origin})",
        f"error on node counts held out of the fit: {errors or 'unknown, it takes three of them'}",
        f"knee: {worth if knee else 'none among these node counts'}",
    ]
    if epochs.unseen:
        lines.append("epochs are a guess: every run met its target before the first look at it; raise the target")
    if crowded:
        counts = ", ".join(map("{:,}".format, sorted(crowded)))
        lines.append(f"not fitted: {counts}, where ranks shared cores or GPUs; predicted for ranks that don't")
    if impossible:
        counts = ", ".join(map("{:,}".format, impossible))
        lines.append(f"left out: {counts} {'node' if impossible == [1] else 'nodes'}. {model.why_not(impossible[0])}")
    return lines


def markdown(name: str, forecasts: Sequence[Forecast], refused: Sequence[str]) -> str:
    """All tables as a page."""
    lines = [f"# {in_markdown(name)}: prediction", ""]
    for forecast in forecasts:
        notes = [f"- {in_markdown(note)}" for note in forecast.notes]
        lines += [f"## {forecast.title}", "", forecast.table().markdown(), "", *notes, ""]
    lines += [f"- no prediction for {in_markdown(line)}" for line in refused]
    return "\n".join(lines).rstrip() + "\n"
