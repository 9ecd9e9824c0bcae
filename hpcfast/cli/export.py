"""``hpcfast export``."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from hpcfast.cli import options

Name = Literal["safetensors", "state-dict", "torchscript", "onnx", "robustbench"]


def command(
    run: Annotated[Path, typer.Argument(help="run directory, e.g. runs/digits_l2", show_default=False)],
    format: Annotated[Name, typer.Option(help="what to write; docs/export.md says who loads which")],
    out: Annotated[Path, typer.Option(help="file to write; FILE.md and FILE.json go beside it", metavar="FILE")],
    overrides: options.Overrides = None,
    images: Annotated[
        int | None, typer.Option(min=1, help="validation images to check the file with, evenly spread; default: all")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace the files that exist")] = False,
    json: options.Json = None,
) -> None:
    """Write the model of a finished run as a file for others, load it again and check what it does."""
    from hpcfast.config import read_run
    from hpcfast.distributed import launcher
    from hpcfast.errors import UserError
    from hpcfast.export.publish import publish
    from hpcfast.runs.directory import RunDirectory
    from hpcfast.runs.progress import Reporter

    if launcher.rank() is not None:
        raise UserError("hpcfast export is the work of one process; start it without horovodrun or mpirun")
    directory = RunDirectory(run)
    config = read_run(directory, overrides)
    with Reporter(visible=True) as reporter:
        result = publish(directory, config, format, out, images, overwrite, reporter)
    low, high = result["ci95"]["clean_accuracy"]
    print(f"{out}: {format}, {result['bytes']:,} bytes")
    print(f"{'sha256':16} {result['sha256']}")
    print(
        f"{'clean accuracy':16} {result['clean_accuracy']:.4f}   95 % interval {low:.4f} to {high:.4f}, "
        f"{result['n_eval']} images, by the file"
    )
    print(f"{'logits':16} differ from the run's model by at most {result['largest_difference']:.2g}")
    print(f"{'card':16} {out}.md, {out}.json")
    options.write_json(json, result)
