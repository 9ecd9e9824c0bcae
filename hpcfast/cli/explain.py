"""``hpcfast explain``."""

from pathlib import Path
from typing import Annotated

import typer

from hpcfast.cli import options


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
    json: options.Json = None,
) -> None:
    """Show what finished runs have learnt, and how near it is to what people see; over any number of ranks."""
    from rich.table import Table

    from hpcfast import explain
    from hpcfast.distributed import comm
    from hpcfast.errors import UserError
    from hpcfast.runs.directory import RunDirectory
    from hpcfast.runs.names import printable
    from hpcfast.runs.progress import Reporter, console

    overrides = [word for word in runs if "=" in word and not Path(word).is_dir()]
    directories = [RunDirectory(Path(word)) for word in runs if word not in overrides]
    if not directories:
        raise UserError(
            f"explain {' '.join(runs)}: no run is given, only settings; name a run directory, e.g. runs/digits_l2"
        )
    world = comm.init()
    subjects, train, val = comm.raise_on_all_ranks(lambda: explain.load(directories, overrides, world))
    ids = comm.raise_on_all_ranks(lambda: explain.chosen(val, images, world))
    with Reporter(world.is_root) as reporter:
        results = explain.explain(subjects, train, val, ids, world, reporter)
    if world.is_root:
        table = Table(
            caption=f"at {results[0]['n']} validation images; in brackets: 95 % intervals", caption_justify="left"
        )
        for heading in ("run", "|cos(gradient, image)|", "cos(gradient, class means)", "smoothness"):
            table.add_column(heading, justify="left" if heading == "run" else "right")
        for subject, result in zip(subjects, results, strict=True):
            cells = [
                f"{value['mean']:.3f} [{value['ci95'][0]:.3f}, {value['ci95'][1]:.3f}]"
                for value in result["alignment"].values()
            ]
            table.add_row(printable(str(subject.run.path)), *cells)
        console(140).print(table)
        print(f"picture: {explain.picture(subjects)}")
    rows = [{"run": str(subject.run.path), **result} for subject, result in zip(subjects, results, strict=True)]
    comm.on_root(lambda: options.write_json(json, {"runs": rows, "picture": str(explain.picture(subjects))}))
