"""``hpcfast data``."""

from pathlib import Path
from typing import Annotated

import typer

from hpcfast.cli import data_pack, data_synthetic, data_verify, options

app = typer.Typer(no_args_is_help=True, help="Prepare data sets.")
app.command("verify")(data_verify.command)
app.command("pack")(data_pack.pack)
app.command("synthetic")(data_synthetic.command)
app.command("stage")(data_pack.stage)


@app.command()
def prepare(
    name: Annotated[str, typer.Argument(help="e.g. digits, cifar10 or restricted-imagenet", show_default=False)],
    source: Annotated[Path | None, typer.Option(help="the data set's published files: a folder or archive")] = None,
    devkit: Annotated[Path | None, typer.Option(help="imagenet: its devkit, if that is not in SOURCE")] = None,
    out: Annotated[Path | None, typer.Option(help="folder to write; default data/NAME")] = None,
    json: options.Json = None,
) -> None:
    """Write a data set as an image folder: train/ and val/, in each one folder a class."""
    from hpcfast import component
    from hpcfast.datasets import prepare as preparing
    from hpcfast.errors import UserError
    from hpcfast.runs.progress import Reporter
    from hpcfast.runs.signals import KEPT, at_once

    try:
        given = {"source": source, "devkit": devkit}
        values = {"name": name.replace("-", "_"), **{key: value for key, value in given.items() if value}}
        chosen = component.validate(component.find("hpcfast.datasets.sources", str(values["name"])), values)
    except component.Invalid as error:
        raise UserError(f"data prepare: {error}") from None
    target = out or Path("data") / name
    with Reporter(visible=True) as reporter, at_once(KEPT, resumes=True):
        task = reporter.task(f"prepare {name}", None, "images")
        manifest = preparing.prepare(chosen, target, task.update)  # type: ignore[arg-type]
        task.close()
        reporter.say(f"{target}: {manifest['images']}")
    options.write_json(json, manifest)


@app.command()
def corrupt(
    data: Annotated[Path, typer.Argument(help="folder with val/, e.g. data/digits", show_default=False)],
    out: Annotated[Path, typer.Option(help="folder to write", show_default=False)],
    names: Annotated[str | None, typer.Option(help="corruptions, e.g. contrast,shot_noise; default: all")] = None,
    severities: Annotated[str | None, typer.Option(help="of 1 to 5, e.g. 1,3,5; default: all")] = None,
    images: Annotated[int | None, typer.Option(help="validation images, evenly spread; default: all")] = None,
    seed: Annotated[int, typer.Option(help="of the noises")] = 0,
    json: options.Json = None,
) -> None:
    """Write validation images with common corruptions: OUT/CORRUPTION/SEVERITY/CLASS/FILE.png, as ImageNet-C.

    Stopped or killed, the same command goes on.
    """
    from hpcfast.datasets.corrupt import Plan
    from hpcfast.datasets.corrupt import corrupt as write
    from hpcfast.runs.progress import Reporter
    from hpcfast.runs.signals import KEPT, at_once

    plan = Plan.of(names, severities, seed)
    with Reporter(visible=True) as reporter, at_once(KEPT, resumes=True):
        task = reporter.task(f"corrupt {data}", None, "images")
        manifest = write(data, out, plan, images, task.update)
        task.close()
        kinds = f"{len(plan.names)} corruptions at {len(plan.severities)} severities"
        reporter.say(f"{out}: {manifest['images']:,} images, {kinds}")
    options.write_json(json, manifest)
