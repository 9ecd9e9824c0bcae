"""Time to robust accuracy, efficiency and cost at node counts that were not measured, and how wrong they may be."""

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from hpcfast.errors import UserError
from hpcfast.scaling.predict import epochs as law
from hpcfast.scaling.predict import fit
from hpcfast.scaling.predict.epochs import Epochs
from hpcfast.scaling.predict.evidence import Evidence, gather, point
from hpcfast.scaling.predict.model import Steps
from hpcfast.scaling.predict.network import Network
from hpcfast.scaling.predict.runtime import Run, Scaling
from hpcfast.scaling.rows import Row

REFITS = 100
"""Resamples of the seeds, for each growth of communication that is believable."""
Range = tuple[float, float]


@dataclass(frozen=True)
class At:
    """A node count; ``low`` and ``high`` are the believable range of ``ttra``, in seconds. No price, no ``cost``."""

    nodes: int
    ranks: int
    global_batch: int
    step: float
    epochs: float
    ttra: float
    low: float
    high: float
    speedup: float
    efficiency: float
    node_hours: float
    cost: float | None


@dataclass(frozen=True)
class Held:
    """A node count, or a cell, left out of the fit: what was predicted of it over what was measured, minus 1."""

    nodes: int
    step: float
    ttra: float | None


@dataclass(frozen=True)
class Forecast:
    """Predictions for one data set, method and way of scaling."""

    data: str
    method: str
    run: Run
    rows: list[At]
    impossible: list[int]
    """Node counts that were asked for but cannot be."""
    measured: dict[int, float]
    """Mean time to robust accuracy by nodes, where there is one."""
    crowded: list[int]
    """Node counts that were left out of the fit, because ranks of their runs shared cores or GPUs."""
    held: list[Held]
    knee: int | None
    knee_range: tuple[int | None, int | None]

    @property
    def error(self) -> float | None:
        """Mean error of step times held out, without signs; None if there were none."""
        return float(np.mean([abs(each.step) for each in self.held])) if self.held else None

    @property
    def ttra_error(self) -> float | None:
        """The same of times to robust accuracy."""
        known = [abs(each.ttra) for each in self.held if each.ttra is not None]
        return float(np.mean(known)) if known else None


def forecasts(
    rows: Sequence[Row], nodes: Sequence[int], price: float | None = None, network: Network | None = None
) -> tuple[list[Forecast], list[str]]:
    """Predict all that ``rows`` allow; also say, in words, for what they don't.

    Args:
        rows: a study's.
        nodes: counts to predict.
        price: of a node-hour.
        network: communication, if it was measured by itself.

    Raises:
        UserError: they allow nothing.
    """
    found: list[Forecast] = []
    refused: list[str] = []
    for data, method in dict.fromkeys((row.data, row.method) for row in rows):
        group = [row for row in rows if (row.data, row.method) == (data, method)]
        for scaling in dict.fromkeys(row.scaling for row in group):
            try:
                found.append(_forecast(gather(group), scaling, sorted(set(nodes)), price, network))
            except UserError as error:
                crowded = any(row.shares for row in group)
                aside = "; runs whose ranks shared cores or GPUs do not count" if crowded else ""
                refused.append(f"{data}, {method}, {scaling}: {error}{aside}")
    if not found:
        raise UserError("nothing can be predicted\n" + "\n".join(f"  {line}" for line in refused or ["no runs"]))
    return found, refused


def _forecast(
    known: Evidence, scaling: Scaling, nodes: list[int], price: float | None, network: Network | None
) -> Forecast:
    runs = _believable(known, scaling, network)
    best, own = runs[0][0], [row for row in known.rows if row.scaling == scaling]
    base = min(row.nodes for row in own)
    held = _held_out(known, scaling, network)
    missed = [each.ttra for each in held if each.ttra is not None] or [each.step for each in held]
    slack = float(np.max(np.abs(missed))) if missed else 0.0
    possible = [n for n in nodes if math.isfinite(best.ttra(n))]
    if not possible:
        raise UserError(best.why_not(nodes[0]))
    ranges = {n: _range([[run.ttra(n) for run in group] for group in runs], slack) for n in possible}
    knees = [run.knee(nodes[-1]) for group in runs for run in group]
    met: dict[int, list[float]] = {}
    for row in own:
        if row.ttra is not None:
            met.setdefault(row.nodes, []).append(row.ttra)
    return Forecast(
        known.rows[0].data, known.rows[0].method, best,
        [_at(best, n, base, ranges[n], price) for n in possible],
        [n for n in nodes if n not in possible],
        {n: float(np.mean(times)) for n, times in sorted(met.items())},
        sorted({row.nodes for row in known.crowded if row.scaling == scaling}),
        held, best.knee(nodes[-1]), (_quantile(knees, 0.05), _quantile(knees, 0.95)),
    )  # fmt: skip


def _batch(known: Evidence, scaling: str) -> int:
    """The batch that the study keeps fixed."""
    rows = [row for row in known.rows if row.scaling == scaling]
    found = {row.global_batch or 0 if scaling == "strong" else (row.global_batch or 0) // row.ranks for row in rows}
    if len(found) != 1:
        raise UserError(f"no single batch: {', '.join(map(str, sorted(found))) or 'no run has trained'}")
    return found.pop()


def _believable(known: Evidence, scaling: Scaling, network: Network | None) -> list[list[Run]]:
    """For each believable growth, the fit to all seeds and then to resamples of them; the first is the prediction."""
    batch = _batch(known, scaling)

    def run(steps: Steps, epochs: Epochs) -> Run:
        return Run(steps, epochs, known.beside, known.images, known.per_node, batch, scaling)

    points, reached = known.points, known.reached
    groups = []
    for model in fit.believable(points, network):
        random = np.random.default_rng(0)
        group = [run(model, law.fit(reached))]
        for _ in range(REFITS if len(points) > len({each.place for each in points}) else 0):
            again = fit.steps(fit.resampled(points, random), model.growth, network)
            drawn = [reached[i] for i in random.integers(len(reached), size=len(reached))]
            group.append(run(again, law.fit(drawn)))
        groups.append(group)
    return groups


def _range(times: list[list[float]], slack: float) -> Range:
    """From the 5th to the 95th percentile over seeds, the widest of all growths, widened by the error held out."""
    low = min(float(np.percentile(group, 5)) for group in times)
    high = max(float(np.percentile(group, 95)) for group in times)
    return low / (1 + slack), high * (1 + slack)


def _quantile(knees: list[int | None], q: float) -> int | None:
    ordered = sorted(math.inf if knee is None else knee for knee in knees)
    value = ordered[round(q * (len(ordered) - 1))]
    return None if math.isinf(value) else int(value)


def _held_out(known: Evidence, scaling: Scaling, network: Network | None) -> list[Held]:
    """What the others predict of each cell of ``scaling``; none where they are too few."""
    found = []
    for cell in known.cells:
        held = [row for row in cell if row.scaling == scaling]
        with suppress(UserError):
            if held:
                found.append(_held(known.without(cell), held, scaling, network))
    return found


def _held(rest: Evidence, rows: list[Row], scaling: Scaling, network: Network | None) -> Held:
    points = [point(row) for row in rows]
    steps = fit.steps(rest.points, network=network)
    predicted = np.mean([steps.seconds(each.ranks, each.batch) for each in points])
    error = float(predicted / np.mean([each.seconds for each in points])) - 1
    times = [row.ttra for row in rows if row.ttra]
    if not times or not rest.reached or all(row.scaling != scaling for row in rest.rows):
        return Held(rows[0].nodes, error, None)
    batch = _batch(rest, scaling)
    run = Run(steps, law.fit(rest.reached), rest.beside, rest.images, rest.per_node, batch, scaling)
    missed = run.ttra(rows[0].nodes) / float(np.mean(times)) - 1
    return Held(rows[0].nodes, error, missed if math.isfinite(missed) else None)


def _at(run: Run, nodes: int, base: int, believed: Range, price: float | None) -> At:
    ttra, ranks = run.ttra(nodes), nodes * run.per_node
    speedup = run.ttra(base) / ttra
    hours = nodes * ttra / 3600
    return At(
        nodes, ranks, run.global_batch(nodes), run.step(nodes), run.epochs.at(run.global_batch(nodes)) or 0.0,
        ttra, *believed, speedup, speedup * base / nodes, hours, None if price is None else price * hours,
    )  # fmt: skip
