"""``hpcfast bench``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from hpcfast.cli import options

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Measure speed; ratios, side by side.")


@app.command()
def step(
    model: Annotated[str, typer.Option(help="any network a config may name")] = "resnet50",
    size: Annotated[int, typer.Option(help="pixels", min=8)] = 64,
    batch: Annotated[int, typer.Option(help="images a rank", min=1)] = 16,
    repeats: Annotated[int, typer.Option(help="timed rounds", min=1)] = 5,
    json: options.Json = None,
) -> None:
    """Time a training step by method, precision and memory format, alone or under horovodrun or mpirun."""
    from rich.console import Console
    from rich.table import Table

    from hpcfast.bench.step import steps
    from hpcfast.distributed import comm

    world = comm.init()
    rows = steps(model, {}, size, batch, repeats, world)
    if world.is_root:
        table = Table(caption=f"{model}, {size} px, {batch} images a rank, {world.size} ranks, n = {repeats}")
        for heading in ("method", "precision", "layout", "seconds", "CPU seconds", "relative", "(range)", "FLOPs"):
            table.add_column(heading)
        for row in rows:
            low, high = row["spread"]
            table.add_row(
                row["method"], row["precision"], row["memory_format"], f"{row['seconds']:.3f}",
                f"{row['cpu_seconds']:.3f}", f"{row['relative_to_standard']:.2f}", f"{low:.2f}-{high:.2f}",
                f"{row['relative_flops']:.3f}",
            )  # fmt: skip
        Console(width=120).print(table)
    comm.on_root(lambda: options.write_json(json, {"rows": rows}))


@app.command()
def allreduce(
    model: Annotated[str, typer.Option(help="any network a config may name")] = "resnet18",
    size: Annotated[int, typer.Option(help="pixels", min=8)] = 64,
    batch: Annotated[int, typer.Option(help="images a rank", min=1)] = 16,
    repeats: Annotated[int, typer.Option(help="timed rounds", min=1)] = 5,
    json: options.Json = None,
) -> None:
    """Time allreduces by size, and what of a training step's is not hidden, under horovodrun, mpirun or srun."""
    from hpcfast.bench.allreduce import measure
    from hpcfast.distributed import comm

    world = comm.init()
    found = measure(model, size, batch, repeats, world)
    if world.is_root:
        _show_allreduce(found, model)
    comm.on_root(lambda: options.write_json(json, found))


def _show_allreduce(found: dict[str, Any], model: str) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(width=120, highlight=False)
    table = Table(caption="{ranks} ranks on {nodes} nodes, n = {n}, medians".format(**found))
    for heading in ("KiB", "sent as", "milliseconds", "(range)", "MB/s on a link"):
        table.add_column(heading, justify="right")
    for row in [*found["rows"], *found["gradients"]]:
        low, high = row["spread"]
        table.add_row(
            f"{row['bytes'] / 1024:,.0f}", {"none": "fp32"}.get(row["compression"], row["compression"]),
            f"{1e3 * row['seconds']:,.2f}", f"{1e3 * low:,.2f}-{1e3 * high:,.2f}", f"{row['bus_bandwidth'] / 1e6:,.0f}",
        )  # fmt: skip
    console.print(table)
    console.print(f"the last two: all gradients of {model}, fused")
    rate = found["bytes_per_second"] / 1e6
    console.print(f"fit: {1e3 * found['latency_seconds']:.2f} ms + size / ({rate:,.0f} MB/s)")
    console.print(
        "a fast step: {with:.3f} s with allreduce, {without:.3f} s without; exposed {exposed:.3f} s ({0:.3f} to "
        "{1:.3f}), of which the clock saw {waited:.3f} s".format(*found["step"]["spread"], **found["step"])
    )


@app.command()
def loader(
    data: Annotated[Path, typer.Argument(help="folder or pack with JPEGs, e.g. of `data synthetic`")],
    size: Annotated[int, typer.Option(help="of the crops, pixels", min=8)] = 224,
    images: Annotated[int, typer.Option(help="read so many a round; their files stay in memory", min=1)] = 1024,
    batch: Annotated[int, typer.Option(help="images", min=1)] = 64,
    threads: Annotated[int | None, typer.Option(help="of each loader; default: cores", min=1)] = None,
    rounds: Annotated[int, typer.Option(help="timed rounds", min=1)] = 5,
    json: options.Json = None,
) -> None:
    """Measure images a second and a core-second: ours, torchvision's, the decoder alone; the best settings."""
    from hpcfast.bench import loader as bench
    from hpcfast.data.reader import read_splits
    from hpcfast.distributed import comm
    from hpcfast.errors import UserError

    world = comm.init()
    if world.size > 1:
        raise UserError(f"bench loader: {world.size} ranks would measure one another; start it without a launcher")
    report = bench.measure(
        read_splits(data)[0], bench.Work(data, size, images, batch, threads or world.threads, rounds), world.device
    )
    options.write_json(json, report)
    _show(report)


def _show(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(width=120, highlight=False)
    table = Table(caption="{images} images of {size} px a round, n = {rounds}, medians".format(**report))
    for heading in ("loader", "threads", "images/s", "images/core-s", "(range)", "x PIL", "(range)"):
        table.add_column(heading)
    for row in report["rows"]:
        table.add_row(
            row["loader"], str(row["threads"]), f"{row['images_per_second']:,.0f}",
            f"{row['images_per_core_second']:,.0f}", "{:,.0f}-{:,.0f}".format(*row["spread"]),
            f"{row['relative_to_pil']:.2f}", "{:.2f}-{:.2f}".format(*row["relative_spread"]),
        )  # fmt: skip
    console.print(table)
    stages = ", ".join(f"{name} {micro:,.0f}" for name, micro in report["microseconds"].items())
    console.print(f"CPU microseconds an image of hpcfast's: {stages}")
    for row in report["sweep"]:
        console.print("threads {threads}, prefetch {prefetch}: {images_per_second:,.0f} images/s".format(**row))
    console.print("best here: data.threads={threads} data.prefetch={prefetch}".format(**report["best"]))
