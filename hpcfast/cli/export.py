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
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace the files that exist")] = False,
    trust_code: options.TrustCode = False,
    json: options.Json = None,
) -> None:
    """Write the model of a finished run as a file for others, load it again and check what it does."""
    from hpcfast.config import read_run
    from hpcfast.distributed import launcher
    from hpcfast.errors import UserError
    from hpcfast.export import publish
    from hpcfast.runs.directory import RunDirectory

    if launcher.rank() is not None:
        raise UserError("hpcfast export is the work of one process; start it without horovodrun or mpirun")
    directory = RunDirectory(run)
    result = publish(directory, read_run(directory), format, out, overwrite)
    print(f"{out}: {format}, {result['bytes']:,} bytes")
    print(f"sha256   {result['sha256']}")
    print(f"logits   differ from the run's model by at most {result['largest_difference']:.2g}")
    print(f"card     {out}.md, {out}.json")
    options.write_json(json, result)
