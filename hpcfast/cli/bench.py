"""``hpcfast bench``."""

from typing import Annotated

import typer

from hpcfast.cli import options

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Measure speed; ratios, side by side.")


@app.callback()
def group() -> None:
    """Keep ``step`` a subcommand while it is the only one."""


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

    from hpcfast import bench, comm

    world = comm.init()
    rows = bench.steps(model, {}, size, batch, repeats, world)
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
