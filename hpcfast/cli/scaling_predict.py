"""``hpcfast scaling predict`` and ``simulate``."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from hpcfast.cli import options

Nodes = Annotated[str, typer.Option(help="node counts: 1,2,6 or 1..4096, by powers of two")]


def predict(
    study: Annotated[Path, typer.Argument(help="the study's YAML file, or its results.csv", show_default=False)],
    nodes: Nodes = "1..4096",
    allreduce: Annotated[Path | None, typer.Option(help="JSON file of 'bench allreduce', instead of a fit")] = None,
    json: options.Json = None,
) -> None:
    """Predict time to robust accuracy, efficiency, cost and the knee for node counts that were not measured."""
    from dataclasses import asdict

    from hpcfast.runs.files import save_text
    from hpcfast.scaling.predict import forecast, show
    from hpcfast.scaling.predict import network as networks

    network = networks.read(allreduce) if allreduce else None
    name, folder, price, rows = _read(study)
    found, refused = forecast.forecasts(rows, counts(nodes), price, network)
    for each in found:
        _print(show.title(each), show.HEADINGS, show.cells(each))
        print("\n".join(show.notes(each)), end="\n\n")
    for line in refused:
        print(f"no prediction for {line}")
    picture = folder / "figures" / "prediction.svg"
    show.figure(found, picture)
    save_text(folder / "prediction.md", show.markdown(name, found, refused, "figures/prediction.svg"))
    print(f"page: {folder / 'prediction.md'}\npicture: {picture}")
    numbers = [asdict(each) | {"error": each.error, "ttra_error": each.ttra_error} for each in found]
    options.write_json(json, {"forecasts": numbers, "refused": refused})


def simulate(
    mtbf: Annotated[float, typer.Option(help="mean time between failures of one node, hours", min=0.01)],
    checkpoint: Annotated[float, typer.Option(help="seconds that writing one keeps the run waiting", min=0.001)],
    study: Annotated[Path | None, typer.Argument(help="take the work from its prediction", show_default=False)] = None,
    work: Annotated[float | None, typer.Option(help="node-hours; each node count shares them out", min=0.001)] = None,
    nodes: Nodes = "1..4096",
    restart: Annotated[float, typer.Option(help="seconds from a job's start to its first step", min=0)] = 120,
    queue: Annotated[float, typer.Option(help="seconds from a job's end to the next one's start", min=0)] = 0,
    limit: Annotated[float | None, typer.Option(help="of a job, hours; default: none", min=0)] = None,
    spread: Annotated[float, typer.Option(help="of step times over nodes, standard deviation over mean", min=0)] = 0,
    repetitions: Annotated[int, typer.Option(help="runs simulated a node count", min=2)] = 1000,
    json: options.Json = None,
) -> None:
    """Simulate failures, checkpoints, requeues and time limits; find the checkpoint interval that loses least."""
    from hpcfast.scaling.predict.simulate import Job

    results = {
        title: [
            _simulated(
                Job(n, seconds, mtbf * 3600, checkpoint, restart, queue, (limit or math.inf) * 3600), repetitions
            )
            for n, seconds in each.items()
        ]
        for title, each in _work(study, work, counts(nodes), spread).items()
    }
    headings = (
        "nodes", "work", "run time", "+/-", "useful", "failures", "checkpoint every", "Young", "Daly", "by Daly",
    )  # fmt: skip
    for title, rows in results.items():
        _print(title, headings, [_words(row) for row in rows])
    options.write_json(json, {"simulated": results, "repetitions": repetitions})


def counts(text: str) -> list[int]:
    """Read ``1,2,6`` or ``1..4096`` (both ends, and the doublings of the first between them).

    Raises:
        UserError: it is neither.
    """
    from hpcfast.errors import UserError

    try:
        if ".." in text:
            first, last = (int(part) for part in text.split(".."))
            found = [first * 2**i for i in range(max(last, 1).bit_length()) if first * 2**i < last] + [last]
            if first > last:
                raise ValueError
        else:
            found = [int(part) for part in text.split(",")]
        if min(found) < 1:
            raise ValueError
    except ValueError:
        raise UserError(f"--nodes {text}: give counts of 1 or more, as 1,2,6 or as 1..4096") from None
    return found


def _read(study: Path) -> tuple[str, Path, float | None, Any]:
    """Name, folder, price of a node-hour and rows of a study."""
    from hpcfast.scaling import collect
    from hpcfast.scaling import study as studies

    if study.suffix == ".csv":
        return study.parent.name, study.parent, None, collect.read_csv(study)
    plan = studies.load(study)
    return plan.title or plan.name, plan.folder, plan.price_per_node_hour, collect.rows(plan)


def _work(study: Path | None, work: float | None, nodes: list[int], spread: float) -> dict[str, dict[int, float]]:
    """Seconds of work by node count, under a title."""
    from hpcfast.errors import UserError
    from hpcfast.scaling.predict import forecast, show
    from hpcfast.scaling.predict.model import slowest

    if study and work is None:
        found, _ = forecast.forecasts(_read(study)[3], nodes)
        return {show.title(each): {at.nodes: at.ttra for at in each.rows} for each in found}
    if study or work is None:
        raise UserError("simulate: give the work either as --work NODE-HOURS, or as a STUDY to predict it from")
    return {f"{work:g} node-hours": {n: work * 3600 / n * slowest(n, spread) for n in nodes}}


def _simulated(job: Any, repetitions: int) -> dict[str, Any]:
    from hpcfast.scaling.predict import simulate as simulation

    found = simulation.best(job, repetitions)
    return {
        "nodes": job.nodes, "work": job.work, "mean": found.mean, "error": found.error, "useful": found.useful,
        "failures": found.failures, "interval": found.interval, "young": simulation.young(job.checkpoint, job.failing),
        "daly": simulation.daly(job.checkpoint, job.failing), "expected": simulation.expected(job, found.interval),
    }  # fmt: skip


def _words(row: dict[str, Any]) -> tuple[str, ...]:
    from hpcfast.scaling.predict.show import duration

    return (
        f"{row['nodes']:,}", *(duration(row[key]) for key in ("work", "mean", "error")), f"{row['useful']:.1%}",
        f"{row['failures']:.3g}", *(duration(row[key]) for key in ("interval", "young", "daly", "expected")),
    )  # fmt: skip


def _print(title: str, headings: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    from rich.table import Table

    from hpcfast.runs.progress import console

    table = Table(title=title, title_justify="left")
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "table" else "right")
    for row in rows:
        table.add_row(*row)
    console(160).print(table)
