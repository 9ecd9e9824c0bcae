"""``hpcfast bench``."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from hpcfast.cli import options

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Measure speed; ratios, side by side.")

Model = Annotated[str, typer.Option(help="any network a config may name")]
Size = Annotated[int, typer.Option(help="pixels", min=8)]
Batch = Annotated[int, typer.Option(help="images a rank", min=1)]
Repeats = Annotated[int, typer.Option(help="timed rounds", min=1)]


@app.command(
    **options.examples(
        "hpcfast bench step --model resnet18 --size 32",
        "horovodrun -np 2 hpcfast bench step",
    )
)
def step(
    model: Model = "resnet50", size: Size = 64, batch: Batch = 16, repeats: Repeats = 5, json: options.Json = None
) -> None:
    """Time a training step by method, precision and memory format, alone or under horovodrun or mpirun."""
    from hpcfast.bench.step import steps
    from hpcfast.distributed import comm
    from hpcfast.report.format import count

    world = comm.init()
    with options.blaming(f"--model {model}", "model.name"):
        rows = steps(model, {}, size, batch, repeats, world)
    if world.is_root:
        text = (
            "{method}|{precision}|{memory_format}|{seconds:.3f}|{cpu_seconds:.3f}|{relative_to_standard:.2f}|"
            "{spread[0]:.2f}-{spread[1]:.2f}|{relative_flops:.3f}"
        )
        caption = f"{model}, {size} px, {count(batch, 'image')} a rank, {count(world.size, 'rank')}, n = {repeats}"
        headings = "method|precision|layout|seconds|CPU seconds|relative|(range)|FLOPs"
        _show(headings, (text.format(**row) for row in rows), caption, left=3)
    comm.on_root(lambda: options.write_json(json, {"rows": rows}))


@app.command(**options.examples("horovodrun -np 2 hpcfast bench allreduce --model resnet18"))
def allreduce(model: Model = "resnet18", repeats: Repeats = 5, json: options.Json = None) -> None:
    """Time allreduces by size, and of all gradients of a network, under horovodrun, mpirun or srun."""
    from hpcfast.bench.allreduce import measure
    from hpcfast.distributed import comm

    world = comm.init()
    with options.blaming(f"--model {model}", "name"):
        found = measure(model, repeats, world)
    if world.is_root:
        _show_allreduce(found, model)
    comm.on_root(lambda: options.write_json(json, found))


def _show_allreduce(found: dict[str, Any], model: str) -> None:
    from hpcfast.report.format import bandwidth, count, short_time

    rows = []
    for row in [*found["rows"], *found["gradients"]]:
        sent = "fp32" if row["compression"] == "none" else row["compression"]
        median, low, high = (1e3 * seconds for seconds in (row["seconds"], *row["spread"]))
        link = row["bus_bandwidth"] / 1e6
        rows.append(f"{row['bytes'] / 1024:,.0f}|{sent}|{median:,.2f}|{low:,.2f}-{high:,.2f}|{link:,.0f}")
    caption = f"{count(found['ranks'], 'rank')} on {count(found['nodes'], 'node')}, n = {found['n']}, medians"
    _show("KiB|sent as|milliseconds|(range)|MB/s on a link", rows, caption, left=0)
    print(f"the last two: all gradients of {model}, fused")
    print(f"fit: {short_time(found['latency_seconds'])} + size / ({bandwidth(found['bytes_per_second'])})")


@app.command(**options.examples("hpcfast bench loader data/like-imagenet --size 224"))
def loader(
    data: Annotated[Path, typer.Argument(help="folder or pack with JPEGs, e.g. of `data synthetic`")],
    size: Annotated[int, typer.Option(help="of the crops, pixels", min=8)] = 224,
    images: Annotated[int, typer.Option(help="read so many a round; their files stay in memory", min=1)] = 1024,
    batch: Annotated[int, typer.Option(help="images", min=1)] = 64,
    rounds: Repeats = 5,
    json: options.Json = None,
) -> None:
    """Measure how many images come a second and a core-second with 1, 2, 4, … threads: what data.threads should be."""
    from hpcfast.bench.loader import measure
    from hpcfast.distributed import comm
    from hpcfast.errors import UserError
    from hpcfast.report.format import count

    world = comm.init()
    if world.size > 1:
        raise UserError(f"bench loader: {world.size} ranks would measure one another; start it without a launcher")
    with options.blaming("DATA", "data.path"):
        found = measure(data, size, images, batch, rounds, world.device)
    options.write_json(json, found)
    text = "{loader}|{threads}|{images_per_second:,.0f}|{images_per_core_second:,.0f}|{spread[0]:,.0f}-{spread[1]:,.0f}"
    caption = f"{count(found['images'], 'image')} of {size} px a round, n = {rounds}, medians"
    _show("loader|threads|images/s|images/core-s|(range)", (text.format(**row) for row in found["rows"]), caption)
    print(f"best here: data.threads={found['best']['threads']}")


def _show(headings: str, rows: Iterable[str], caption: str, left: int = 1) -> None:
    """Print a table, whose cells are parted by ``|``."""
    from hpcfast.runs.progress import console, table

    console(120).print(table(headings.split("|"), (row.split("|") for row in rows), caption, left))
