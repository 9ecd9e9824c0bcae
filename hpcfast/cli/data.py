"""``hpcfast data``."""

from pathlib import Path
from typing import Annotated

import typer

from hpcfast.cli import options

app = typer.Typer(no_args_is_help=True, help="Prepare data sets.")
app.callback()(lambda: None)  # a group, although it has one command


@app.command()
def prepare(
    name: Annotated[str, typer.Argument(help="digits or fashion-mnist", show_default=False)],
    source: Annotated[Path | None, typer.Option(help="folder of the data set's published files")] = None,
    out: Annotated[Path | None, typer.Option(help="folder to write; default data/NAME")] = None,
    json: options.Json = None,
) -> None:
    """Write a data set as an image folder: train/ and val/, in each one folder a class."""
    from hpcfast import component
    from hpcfast.data import prepare as preparing
    from hpcfast.errors import UserError
    from hpcfast.progress import Reporter

    try:
        values = {"name": name.replace("-", "_"), "source": source}
        chosen = component.find("hpcfast.data.sources", str(values["name"])).model_validate(values)
    except component.Invalid as error:
        raise UserError(f"data prepare: {error}") from None
    target = out or Path("data") / name
    with Reporter(visible=True) as reporter:
        task = reporter.task(f"prepare {name}", None, "images")
        manifest = preparing.prepare(chosen, target, task.update)  # type: ignore[arg-type]
        task.close()
        reporter.say(f"{target}: {manifest['images']}")
    options.write_json(json, manifest)
