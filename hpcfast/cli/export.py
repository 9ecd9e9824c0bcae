"""``hpcfast export``."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from hpcfast.cli import options

Name = Literal["safetensors", "state-dict", "torchscript", "onnx", "robustbench", "hub"]

EXAMPLES = options.examples(
    "hpcfast export runs/digits_l2 --format onnx --out digits.onnx",
)


def command(
    run: Annotated[Path, typer.Argument(help="run directory, e.g. runs/digits_l2", show_default=False)],
    format: Annotated[Name, typer.Option(help="what to write; docs/export.md says who loads which")],
    out: Annotated[
        Path, typer.Option(help="file to write, FILE.md and FILE.json beside it; for hub a folder", metavar="FILE")
    ],
    push_to: Annotated[
        str | None,
        typer.Option(
            "--push-to", help="upload --format hub to this repository of the Hugging Face Hub", metavar="OWNER/NAME"
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace the files that exist")] = False,
    trust_code: options.TrustCode = False,
    json: options.Json = None,
) -> None:
    """Write the model of a finished run as a file for others, load it again and check what it does."""
    from hpcfast.config import read_run
    from hpcfast.distributed import launcher
    from hpcfast.errors import UserError
    from hpcfast.export import hub, publish
    from hpcfast.runs.directory import RunDirectory

    if launcher.rank() is not None:
        raise UserError("hpcfast export is the work of one process; start it without horovodrun or mpirun")
    if push_to and format != "hub":
        raise UserError(f"--push-to {push_to}: only --format hub can be pushed, not {format}")
    token = hub.token(push_to) if push_to else ""
    directory = RunDirectory(run)
    result = publish(directory, read_run(directory), format, out, overwrite)
    print(f"{out}: {format}, {result['bytes']:,} bytes")
    print(f"sha256   {result['sha256']}")
    print(f"logits   differ from the run's model by at most {result['largest_difference']:.2g}")
    print(f"card     {result['card']}, {result['about']}")
    if push_to:
        print(f"pushed   {hub.push(out, push_to, token)}")
    options.write_json(json, result)
