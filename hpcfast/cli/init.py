"""``hpcfast init``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hpcfast.cli import options

if TYPE_CHECKING:
    from hpcfast.datasets.survey import Survey

EXAMPLES = options.examples(
    "hpcfast init --data photos",
    "hpcfast init --data cells/labels.csv --model resnet18 --norm L2 --eps 1 val=10% groups=patient",
)


def command(
    data: Annotated[
        Path, typer.Option(help="folder of class folders, table of labels, or what training reads", show_default=False)
    ],
    settings: Annotated[
        list[str] | None, typer.Argument(help="of the division into train and val: val, seed, labels, groups")
    ] = None,
    model: Annotated[str | None, typer.Option(help="network, e.g. resnet50; default: by the images' size")] = None,
    norm: Annotated[str, typer.Option(help="of the changes to withstand: Linf or L2")] = "Linf",
    eps: Annotated[str | None, typer.Option(help="their size, e.g. 4/255; default: by the images' size")] = None,
    recipe: Annotated[str, typer.Option(help="what to train with: fast, published, pgd7 or standard")] = "fast",
    out: Annotated[Path | None, typer.Option(help="file to write; default: named after the data")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace that file")] = False,
) -> None:
    """Look at your images and write a configuration for them, ready for hpcfast train.

    Images without train/ and val/ are divided first, by links in data/NAME.
    """
    import yaml

    from hpcfast import config
    from hpcfast.config import proposal
    from hpcfast.data.dataset import usually_held
    from hpcfast.datasets import survey
    from hpcfast.errors import UserError
    from hpcfast.runs import files

    options.refuse_ranks("init")
    for option, value, legal in (("--recipe", recipe, proposal.RECIPES), ("--norm", norm, ("Linf", "L2"))):
        if value not in legal:
            raise UserError(f"{option} {value}: must be one of {', '.join(legal)}")
    name = (data.parent if data.is_file() else data).resolve().name
    target = out or Path(f"{name}.yaml")
    if target.exists() and not overwrite:
        raise UserError(f"{target} exists; give another --out, or --overwrite to replace it")
    if not data.exists() and not str(data).startswith("synthetic:"):
        raise UserError(f"--data {data}: nothing is there; give a folder of class folders, or a table of labels")
    place = _readable(data, name, settings or [])
    with options.blaming("--data", "data.path"):
        found = survey.look(place)
    _refuse_too_few(found, data)
    text = proposal.text(found, place, norm, recipe)
    chosen = {"model.name": ("--model", model), "threat.eps": ("--eps", eps)}
    given = [config.Option.of(option, value, key) for key, (option, value) in chosen.items() if value is not None]
    run = config.parse(yaml.safe_load(text), [f"name={target.stem}", *given], str(target))
    text = proposal.text(found, place, norm, recipe, model, eps)
    try:
        files.save_text(target, text)
    except OSError as error:
        raise UserError(f"--out {target} cannot be written: {error}") from None
    steps = (run.epochs or 0) * ((found.train - usually_held(found.train)) // run.data.batch_size)
    print("\n".join([*_described(found, place), f"{target}: {run.model.name}, {steps:,} steps on one rank"]))
    print(f"next: hpcfast train {target}\nthen: hpcfast report {run.folder}")


def _readable(data: Path, name: str, settings: list[str]) -> Path:
    """``data``, or the folder that its images were divided into."""
    from hpcfast.cli.data import prepare
    from hpcfast.data.packed import is_pack
    from hpcfast.errors import UserError

    if is_pack(data) or str(data).startswith("synthetic:") or all((data / part).is_dir() for part in ("train", "val")):
        if settings:
            raise UserError(f"{' '.join(settings)}: {data} is divided into train and val already; leave it out")
        return data
    place = Path("data") / name
    place = place.with_name(f"{name}-divided") if place.resolve() == data.resolve() else place
    with options.blaming("--data", "--source"):
        prepare("images", settings, data, place)
    return place


def _refuse_too_few(found: "Survey", data: Path) -> None:
    from hpcfast.config.proposal import LEAST
    from hpcfast.errors import UserError

    if (few := sum(images < LEAST for images in found.classes.values())) > len(found.classes) / 2:
        raise UserError(
            f"--data {data}: {few:,} of {len(found.classes):,} classes have fewer than {LEAST} images to train on, "
            f"{found.train:,} in all; give more images a class, or another folder if these are not the classes"
        )


def _described(found: "Survey", place: Path) -> list[str]:
    """What was found, a line each."""
    from hpcfast.config.proposal import UNEVEN

    smallest, median, largest = found.sides
    colour = "grey" if found.channels == 1 else "colour"
    said = [
        f"{place}: {len(found.classes)} classes, {found.train:,} images to train on, {found.val:,} to validate with",
        f"{colour}, shorter side {median} pixels ({smallest} to {largest})",
    ]
    if found.imbalance > UNEVEN:
        ordered = sorted(found.classes.items(), key=lambda each: each[1])
        (few, least), (many, most) = ordered[0], ordered[-1]
        said.append(f"unbalanced: '{few}' has {least:,} images, '{many}' {most:,}; losses are weighted by class")
    return said
