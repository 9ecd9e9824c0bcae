"""``hpcfast data``."""

from collections.abc import Callable
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hpcfast import foreign
from hpcfast.cli import options

if TYPE_CHECKING:
    from hpcfast.datasets.verify import Found

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Prepare data sets.")
REMEDIES = {"mend": "to be mended", "skip": "left out"}
EXAMPLES = 3  # of each kind of fault, that are shown


@app.command(**options.examples("hpcfast data verify data/digits"))
def verify(
    data: Annotated[Path, typer.Argument(help="folder with train/ and val/, or a pack", show_default=False)],
    skips: Annotated[Path | None, typer.Option(help="list to write; default DATA/skips.txt")] = None,
    json: options.Json = None,
) -> None:
    """Find images and folders that would spoil a run; list bad images, so that training leaves them out.

    Exits with 0 if nothing is wrong, with 2 if something is.
    """
    from hpcfast.data.skips import NAME
    from hpcfast.datasets import verify as verifying
    from hpcfast.errors import UserError
    from hpcfast.runs.progress import Reporter

    options.refuse_ranks("data verify")
    target = skips or data / NAME
    if data.is_dir():
        verifying.check_place(target)
    with Reporter(visible=True) as reporter:
        task = reporter.task(f"verify {data}", None, "images")
        images, found = verifying.verify(data, task.update)
        task.close()
    bad = verifying.write_skips(target, found)
    options.write_json(json, {"data": str(data), "images": images, "found": [each._asdict() for each in found]})
    if not found:
        print(f"{data}: {images:,} images, nothing wrong")
        return
    _show(found)
    parts = []
    if bad:
        setting = f" if told data.skips={target}" if skips else ""
        parts.append(f"{data}: bad images: {bad:,}; {target} lists them, and training leaves them out{setting}")
    if broken := len([each for each in found if each.remedy == "mend"]):
        parts.append(f"{data}: faults to mend by hand: {broken:,}; the table names them")
    raise UserError(". ".join(parts))


def _show(found: "list[Found]") -> None:
    from rich.table import Table
    from rich.text import Text

    from hpcfast.runs.names import printable
    from hpcfast.runs.progress import console

    def group(each: "Found") -> tuple[str, str]:
        return each.remedy, each.kind

    grid = Table("found", "count", "remedy", "for instance")
    for (remedy, kind), rows in groupby(sorted(found, key=group), group):
        some = list(rows)
        first = "\n".join(printable(f"{each.name}: {each.reason}") for each in some[:EXAMPLES])
        grid.add_row(kind, f"{len(some):,}", REMEDIES[remedy], Text(first, overflow="fold"))
    console(140).print(grid)


def _write(
    title: str,
    work: Callable[[Callable[..., None]], dict[str, Any]],
    described: Callable[[dict[str, Any]], str],
    json: Path | None,
    total: int | None = None,
    unit: str = "images",
    is_root: bool = True,
) -> None:
    """Have ``work`` write something, show how far it is, and report what it returns; on rank 0 only, if there are more.

    What is done is kept: a signal may end it anywhere.
    """
    from hpcfast.runs.progress import Reporter
    from hpcfast.runs.signals import KEPT, at_once

    with Reporter(visible=is_root) as reporter, at_once(KEPT, resumes=True):
        task = reporter.task(title, total, unit)
        manifest = work(task.update)
        task.close()
        reporter.say(described(manifest))
    if is_root:
        options.write_json(json, manifest)


def _counted(folder: Path, manifest: dict[str, Any]) -> str:
    """E.g. ``data/digits: train 1,437 images, val 360 images``."""
    counts = ", ".join(f"{split} {images:,} images" for split, images in manifest["images"].items())
    return "\n".join([f"{folder}: {counts}", *manifest.get("remarks", [])])


def _setting(text: str) -> tuple[str, str]:
    from hpcfast.errors import UserError

    key, is_one, value = text.partition("=")
    if not is_one or key in ("name", "source"):
        raise UserError(f"data prepare: '{text}' is no setting: write key=value, e.g. val=20%")
    return key, value


@app.command(
    **options.examples(
        "hpcfast data prepare fashion-mnist --source /usr/share/datasets/fashion-mnist",
        "hpcfast data prepare images --source photos --out data/photos val=20%",
    )
)
@foreign.trusting()
def prepare(
    name: Annotated[str, typer.Argument(help="e.g. digits, cifar10, or images: your own", show_default=False)],
    settings: Annotated[
        list[str] | None, typer.Argument(help="of the data set; those of images: val, seed, labels, groups")
    ] = None,
    source: Annotated[Path | None, typer.Option(help="the data set's published files: a folder or archive")] = None,
    out: Annotated[Path | None, typer.Option(help="folder to write; default data/NAME")] = None,
    json: options.Json = None,
) -> None:
    """Write a data set as an image folder: train/ and val/, in each one folder a class."""
    from hpcfast import component
    from hpcfast.datasets import prepare as preparing
    from hpcfast.errors import UserError

    try:
        given = dict(_setting(text) for text in settings or [])
        values = given | {"name": name if "." in name else name.replace("-", "_"), "source": source}
        chosen = component.validate(component.find("hpcfast.datasets.sources", str(values["name"])), values)
    except component.Invalid as error:
        raise UserError(f"data prepare: {error}") from None
    target = out or Path("data") / name
    work = partial(preparing.prepare, chosen, target)  # type: ignore[arg-type]
    _write(f"prepare {name}", work, partial(_counted, target), json)


@app.command(
    **options.examples(
        "hpcfast data corrupt data/digits --out data/digits-c --names contrast,shot_noise --severities 1,3,5"
    )
)
def corrupt(
    data: Annotated[Path, typer.Argument(help="folder with val/, e.g. data/digits", show_default=False)],
    out: Annotated[Path, typer.Option(help="folder to write", show_default=False)],
    names: Annotated[str | None, typer.Option(help="corruptions, e.g. contrast,shot_noise; default: all")] = None,
    severities: Annotated[str | None, typer.Option(help="of 1 to 5, e.g. 1,3,5; default: all")] = None,
    images: Annotated[int | None, typer.Option(help="validation images, evenly spread; default: all")] = None,
    json: options.Json = None,
) -> None:
    """Write validation images with common corruptions: OUT/CORRUPTION/SEVERITY/CLASS/FILE.png, as ImageNet-C.

    Stopped or killed, the same command resumes.
    """
    from hpcfast.datasets.corrupt import chosen
    from hpcfast.datasets.corrupt import corrupt as write
    from hpcfast.datasets.corruptions import CORRUPTIONS, SEVERITIES

    kinds = chosen("--names", names, tuple(CORRUPTIONS)), chosen("--severities", severities, SEVERITIES)

    def described(manifest: dict[str, Any]) -> str:
        written = f"{len(manifest['corruptions'])} corruptions at {len(manifest['severities'])} severities"
        return f"{out}: {manifest['images']:,} images, {written}"

    _write(f"corrupt {data}", partial(write, data, out, images, names=kinds[0], severities=kinds[1]), described, json)


@app.command(**options.examples("hpcfast data synthetic data/like-imagenet --images 10000 --classes 100"))
def synthetic(
    out: Annotated[Path, typer.Argument(help="folder to write", show_default=False)],
    images: Annotated[int, typer.Option(help="training images; a twentieth more to validate with", show_default=False)],
    classes: Annotated[int, typer.Option(help="class folders")] = 1000,
    size: Annotated[str | None, typer.Option(help="of all images, e.g. 500x375; default: mixed like ImageNet")] = None,
    json: options.Json = None,
) -> None:
    """Write an image folder like ImageNet's, of any size, from photographs that ship with packages.

    Stopped or killed, the same command resumes.
    """
    from hpcfast.datasets.generate import Recipe, synthesise

    recipe = Recipe.of(images, classes, size)
    work, total = partial(synthesise, recipe, out), sum(recipe.counts().values())
    _write(f"synthetic {out}", work, partial(_counted, out), json, total)


@app.command(**options.examples("hpcfast data pack data/imagenet data/imagenet-packed --short-side 256"))
def pack(
    data: Annotated[Path, typer.Argument(help="folder with train/ and val/, or another pack", show_default=False)],
    out: Annotated[Path, typer.Argument(help="folder to write", show_default=False)],
    shard_mb: Annotated[int, typer.Option(help="size of a shard, million bytes", min=1)] = 256,
    short_side: Annotated[int | None, typer.Option(help="pixels; larger images are resized to it", min=1)] = None,
    seed: Annotated[int, typer.Option(help="of the order in which images are packed", min=0)] = 0,
    json: options.Json = None,
) -> None:
    """Write a data set as a few large files (WebDataset shards).

    Stopped or killed, the same command resumes.
    """
    from hpcfast.datasets.packs import write

    options.refuse_ranks("data pack")
    recipe = write.Recipe(shard_mb, short_side, seed)

    def work(update: Callable[..., None]) -> dict[str, Any]:
        return write.pack(data, out, recipe, lambda done, total: update(done, f"of {total:,}"))

    def described(manifest: dict[str, Any]) -> str:
        shards = manifest["shards"]
        size = sum(shard["tar"]["bytes"] for shard in shards) / 1e6
        images, left_out = sum(shard["images"] for shard in shards), sum(manifest["left_out"].values())
        return f"{out}: {images:,} images in {len(shards):,} shards, {size:,.1f} MB, {left_out} left out"

    with options.blaming("DATA", "data.path"):
        _write(f"pack {data}", work, described, json)


@app.command(**options.examples("srun --ntasks-per-node=1 hpcfast data stage data/imagenet-packed /local/imagenet"))
def stage(
    pack: Annotated[Path, typer.Argument(help="what hpcfast data pack wrote, on the shared disk", show_default=False)],
    to: Annotated[
        Path, typer.Argument(help="folder on a disk of the node's own; {node}: its name", show_default=False)
    ],
    json: options.Json = None,
) -> None:
    """Copy a pack to every node's own disk, alone or under mpirun, srun or horovodrun.

    Stopped or killed, the same command resumes.
    """
    from hpcfast.datasets.packs import stage as staging
    from hpcfast.distributed import comm

    world = comm.init(gpus=False)
    work, described = partial(staging.stage, pack, to, world), partial(staging.sentence, pack, to)
    _write(f"stage {pack}", work, described, json, unit="bytes", is_root=world.is_root)
