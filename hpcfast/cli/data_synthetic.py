"""``hpcfast data synthetic``."""

from pathlib import Path
from typing import Annotated

import typer

from hpcfast.cli import options


def command(
    out: Annotated[Path, typer.Argument(help="folder to write", show_default=False)],
    images: Annotated[int, typer.Option(help="training images; a twentieth more to validate with", show_default=False)],
    classes: Annotated[int, typer.Option(help="class folders")] = 1000,
    size: Annotated[str | None, typer.Option(help="of all images, e.g. 500x375; default: mixed like ImageNet")] = None,
    seed: Annotated[int, typer.Option(help="another one gives other images")] = 0,
    json: options.Json = None,
) -> None:
    """Write an image folder like ImageNet's, of any size, from photographs that ship with packages.

    Stopped or killed, the same command goes on.
    """
    from hpcfast.datasets.generate import Recipe, synthesise
    from hpcfast.runs.progress import Reporter
    from hpcfast.runs.signals import KEPT, at_once

    recipe = Recipe.of(images, classes, size, seed)
    with Reporter(visible=True) as reporter, at_once(KEPT, resumes=True):
        task = reporter.task(f"synthetic {out}", sum(recipe.counts().values()), "images")
        manifest = synthesise(recipe, out, task.update)
        task.close()
        reporter.say(f"{out}: {manifest['images']}")
    options.write_json(json, manifest)
