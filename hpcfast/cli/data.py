"""``hpcfast data``."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from hpcfast.cli import data_pack, data_verify, options

app = typer.Typer(no_args_is_help=True, help="Prepare data sets.")
app.command("verify")(data_verify.command)
app.command("pack")(data_pack.pack)
app.command("stage")(data_pack.stage)


def _write(
    title: str,
    work: Callable[[Callable[[int], None]], dict[str, Any]],
    described: Callable[[dict[str, Any]], str],
    json: Path | None,
    total: int | None = None,
) -> None:
    """Have ``work`` write images, show how many are done, and report its manifest."""
    from hpcfast.runs.progress import Reporter
    from hpcfast.runs.signals import KEPT, at_once

    with Reporter(visible=True) as reporter, at_once(KEPT, resumes=True):
        task = reporter.task(title, total, "images")
        manifest = work(task.update)
        task.close()
        reporter.say(described(manifest))
    options.write_json(json, manifest)


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

    try:
        given = {"source": source, "devkit": devkit}
        values = {"name": name.replace("-", "_"), **{key: value for key, value in given.items() if value}}
        chosen = component.validate(component.find("hpcfast.datasets.sources", str(values["name"])), values)
    except component.Invalid as error:
        raise UserError(f"data prepare: {error}") from None
    target = out or Path("data") / name
    work = partial(preparing.prepare, chosen, target)  # type: ignore[arg-type]
    _write(f"prepare {name}", work, lambda manifest: f"{target}: {manifest['images']}", json)


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

    Stopped or killed, the same command resumes.
    """
    from hpcfast.datasets.corrupt import Plan
    from hpcfast.datasets.corrupt import corrupt as write

    plan = Plan.of(names, severities, seed)
    kinds = f"{len(plan.names)} corruptions at {len(plan.severities)} severities"
    work = partial(write, data, out, plan, images)
    _write(f"corrupt {data}", work, lambda manifest: f"{out}: {manifest['images']:,} images, {kinds}", json)


@app.command()
def synthetic(
    out: Annotated[Path, typer.Argument(help="folder to write", show_default=False)],
    images: Annotated[int, typer.Option(help="training images; a twentieth more to validate with", show_default=False)],
    classes: Annotated[int, typer.Option(help="class folders")] = 1000,
    size: Annotated[str | None, typer.Option(help="of all images, e.g. 500x375; default: mixed like ImageNet")] = None,
    seed: Annotated[int, typer.Option(help="another one gives other images")] = 0,
    json: options.Json = None,
) -> None:
    """Write an image folder like ImageNet's, of any size, from photographs that ship with packages.

    Stopped or killed, the same command resumes.
    """
    from hpcfast.datasets.generate import Recipe, synthesise

    recipe = Recipe.of(images, classes, size, seed)
    work, total = partial(synthesise, recipe, out), sum(recipe.counts().values())
    _write(f"synthetic {out}", work, lambda manifest: f"{out}: {manifest['images']}", json, total)
