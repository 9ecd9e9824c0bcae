"""``hpcfast explain``."""

from pathlib import Path
from typing import Annotated

import typer

from hpcfast.cli import options

EXAMPLES = options.examples(
    "hpcfast explain runs/digits_l2_standard runs/digits_l2",
)


def command(
    runs: Annotated[
        list[str],
        typer.Argument(
            help="run directories, then settings to change, e.g. seed=1", metavar="RUN...", show_default=False
        ),
    ],
    images: Annotated[
        int | None, typer.Option(help="validation images to measure, evenly spread; default: 500, or all if fewer")
    ] = None,
    trust_code: options.TrustCode = False,
    json: options.Json = None,
) -> None:
    """Show what finished runs have learnt, and how near it is to what people see; over any number of ranks."""
    from hpcfast import explain
    from hpcfast.distributed import comm
    from hpcfast.errors import UserError
    from hpcfast.report.format import with_interval
    from hpcfast.runs.directory import RunDirectory
    from hpcfast.runs.names import printable
    from hpcfast.runs.progress import Reporter, console, table

    overrides = [word for word in runs if "=" in word and not Path(word).is_dir()]
    directories = [RunDirectory(Path(word)) for word in runs if word not in overrides]
    if not directories:
        raise UserError(
            f"explain {' '.join(runs)}: no run is given, only settings; name a run directory, e.g. runs/digits_l2"
        )
    world = comm.init()
    loaded, val = comm.raise_on_all_ranks(lambda: explain.load(directories, overrides, world))
    ids = comm.raise_on_all_ranks(lambda: explain.chosen(val, images, world))
    with Reporter(world.is_root) as reporter:
        results, picture = explain.explain(loaded, val, ids, world, reporter)
    found = [{"run": str(each.run.path), **result} for each, result in zip(loaded, results, strict=True)]
    if world.is_root:
        headings = ("run", "|cos(gradient, image)|")
        measured = [(row["run"], row["alignment"]["image"]) for row in found]
        rows = [(printable(run), with_interval(each["mean"], each["ci95"])) for run, each in measured]
        caption = f"at {results[0]['n']} validation images; in brackets: 95 % intervals"
        console(140).print(table(headings, rows, caption))
        print(f"picture: {picture}")
    comm.on_root(lambda: options.write_json(json, {"runs": found, "picture": str(picture)}))
