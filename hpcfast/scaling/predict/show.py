"""A forecast as a table and a figure."""

from collections.abc import Sequence
from pathlib import Path

from hpcfast.runs.files import write_atomically
from hpcfast.runs.names import in_figure
from hpcfast.scaling.predict.forecast import Forecast
from hpcfast.scaling.predict.runtime import GAIN

HEADINGS = (
    "nodes", "ranks", "global batch", "s/step", "epochs", "time to target", "range", "measured",
    "speed-up", "efficiency", "node-hours", "cost",
)  # fmt: skip


def duration(seconds: float) -> str:
    """``3.2 s``, ``12.5 min``, ``7.1 h``, ``3.4 days``; it may be infinite."""
    for unit, size, most in (("s", 1, 120), ("min", 60, 7200), ("h", 3600, 172800)):
        if seconds < most:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 86400:.3g} days"


def cells(forecast: Forecast) -> list[tuple[str, ...]]:
    """The table's rows, in words, under HEADINGS."""
    rows: list[tuple[str, ...]] = []
    for at in forecast.rows:
        measured = forecast.measured.get(at.nodes)
        rows.append((
            f"{at.nodes:,}", f"{at.ranks:,}", f"{at.global_batch:,}", f"{at.step:.3g}", f"{at.epochs:.3g}",
            duration(at.ttra), f"{duration(at.low)} - {duration(at.high)}", duration(measured) if measured else "",
            f"{at.speedup:.3g}", f"{at.efficiency:.2f}", f"{at.node_hours:.3g}",
            "" if at.cost is None else f"{at.cost:,.2f}",
        ))  # fmt: skip
    return rows


def notes(forecast: Forecast) -> list[str]:
    """What belongs under the table: the fit, its error, the knee."""
    run, lines = forecast.run, []
    terms = ", ".join(f"{name} {seconds:.3g} s" for name, seconds in run.steps.coefficients.items())
    lines.append(f"step time: {terms}; communication {'measured by itself' if run.steps.network else 'fitted'}")
    noise = run.epochs.noise
    scale = "unknown" if noise is None else "infinite" if noise == float("inf") else f"{noise:,.0f} images"
    lines.append(f"epochs: {run.epochs.least:.3g} at least, noise scale {scale} ({run.epochs.origin})")
    if run.epochs.unseen:
        lines.append("epochs are a guess: every run met its target before the first look at it; raise the target")
    if forecast.held:
        each = ", ".join(f"{held.nodes}: {held.step:+.1%}" for held in forecast.held)
        total = "" if forecast.ttra_error is None else f"; of the time to the target {forecast.ttra_error:.1%}"
        what = "node counts" if len({held.nodes for held in forecast.held}) > 2 else "cells"
        lines.append(f"error on {what} held out of the fit: step time {forecast.error:.1%} ({each}){total}")
    else:
        lines.append("error on node counts held out of the fit: unknown, it takes three, or two with several batches")
    lines.append(f"knee: {_knee(forecast)}")
    if forecast.crowded:
        counts = ", ".join(f"{nodes:,}" for nodes in forecast.crowded)
        lines.append(f"not fitted: {counts}, where ranks shared cores or GPUs; predicted for ranks that don't")
    if forecast.impossible:
        counts = ", ".join(f"{nodes:,}" for nodes in forecast.impossible)
        lines.append(f"left out: {counts} nodes. {run.why_not(forecast.impossible[0])}")
    return lines


def _knee(forecast: Forecast) -> str:
    def say(knee: int | None) -> str:
        return "more" if knee is None else f"{knee:,}"

    low, high = forecast.knee_range
    if forecast.knee is None:
        return f"none among these node counts (believable: from {say(low)} on)"
    worth = f"at {forecast.knee:,}, twice as many nodes save less than {GAIN:.0%} of the time"
    return f"{worth} (believable: {say(low)} to {say(high)})"


def title(forecast: Forecast) -> str:
    """``digits, fast, strong scaling``."""
    return f"{forecast.data}, {forecast.method}, {forecast.run.scaling} scaling"


def markdown(name: str, forecasts: Sequence[Forecast], refused: Sequence[str], picture: str) -> str:
    """All tables as a page; ``picture`` is the figure's file, relative to it."""
    lines = [f"# {name}: prediction", "", f"![Predicted time to the target and efficiency by nodes]({picture})", ""]
    for forecast in forecasts:
        lines += [f"## {title(forecast)}", "", f"| {' | '.join(HEADINGS)} |", "|" + "---|" * len(HEADINGS)]
        lines += [f"| {' | '.join(row)} |" for row in cells(forecast)]
        lines += ["", *(f"- {note}" for note in notes(forecast)), ""]
    lines += [f"- no prediction for {line}" for line in refused]
    return "\n".join(lines).rstrip() + "\n"


def figure(forecasts: Sequence[Forecast], path: Path) -> None:
    """Draw time to the target and efficiency by nodes, measured and predicted, into an SVG file."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogFormatter

    from hpcfast.scaling.figures import COLOURS, MARKERS, STYLES

    drawing = Figure(figsize=(9.6, 4.2), layout="constrained")
    times, efficiency = drawing.subplots(1, 2)
    for i, forecast in enumerate(forecasts):
        nodes = [at.nodes for at in forecast.rows]
        look = {"color": COLOURS[i % 4], "marker": MARKERS[i % 4], "markersize": 4}
        look["linestyle"] = STYLES[(i + i // 4) % 4]  # with the marker, sixteen that differ in grey
        times.plot(nodes, [at.ttra for at in forecast.rows], label=in_figure(title(forecast), 48), **look)
        band = [at.low for at in forecast.rows], [at.high for at in forecast.rows]
        times.fill_between(nodes, *band, color=look["color"], alpha=0.15, linewidth=0)
        measured = {"color": look["color"], "marker": "x", "linestyle": "none", "markersize": 9}
        times.plot(list(forecast.measured), list(forecast.measured.values()), **measured)
        efficiency.plot(nodes, [at.efficiency for at in forecast.rows], **look)
    times.set(xscale="log", yscale="log", xlabel="nodes", ylabel="seconds to the target (x: measured)")
    times.yaxis.set_major_formatter(LogFormatter())
    times.yaxis.set_minor_formatter(LogFormatter())
    efficiency.set(xscale="log", xlabel="nodes", ylabel="efficiency", ylim=(0, None))
    for axes in (times, efficiency):
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.grid(alpha=0.3)
    drawing.legend(loc="outside lower center", ncols=2, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda part: drawing.savefig(part, format="svg"))
