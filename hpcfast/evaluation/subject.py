"""What ``hpcfast eval`` measures: a finished run, or weights from elsewhere."""

from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import OmegaConf

from hpcfast.config import parse, read_run
from hpcfast.data import DataSettings, listing
from hpcfast.data.classes import match
from hpcfast.data.reader import read_splits
from hpcfast.data.resize import EVAL_CROP
from hpcfast.errors import UserError
from hpcfast.evaluation.session import Subject
from hpcfast.models import pretrained, saved
from hpcfast.models.pretrained import class_names
from hpcfast.runs.directory import RunDirectory


class Elsewhere(NamedTuple):
    """What the options that go with ``--weights`` say, as they were typed."""

    weights_key: str | None = None
    arch: str | None = None
    mean: str | None = None
    std: str | None = None
    classes: Path | None = None
    data: Path | None = None
    size: int | None = None


def named(run: Path | None, weights: Path | None, given: Elsewhere, changes: list[str], out: Path | None) -> Subject:
    """A finished run on its own validation images, or weights from elsewhere; results go to the folder ``out``.

    Raises:
        UserError: neither or both are named, there is no such run, or something is missing or wrong.
    """
    if bool(weights) == bool(run):
        raise UserError("name what to measure: either a run directory or --weights FILE")
    if weights:
        return of_weights(weights, given, changes, out)
    assert run  # noqa: S101 - see above
    if odd := [name.replace("_", "-") for name, value in given._asdict().items() if value is not None]:
        raise UserError(
            f"--{odd[0]} is for --weights, not for the run {run}; its settings are changed as key=value, "
            f"e.g. data.path=data/cifar10"
        )
    directory = RunDirectory(run)
    config = read_run(directory, changes)
    model, classes = saved.load(directory, config.model)
    split, said = match(read_splits(config.data.path, config.data.skips)[1], classes, str(run))
    said += listing.remark(split.root, split.unread)
    return Subject(config, model, split, out or directory.evaluations, said)


def of_weights(weights: Path, given: Elsewhere, changes: list[str], out: Path | None) -> Subject:
    """Weights from elsewhere, on the validation images in ``given.data``.

    Raises:
        UserError: something is missing or wrong; the message says what to give.
    """
    origin = f"--weights {weights}"
    eps = next((change for change in changes if change.startswith("threat.eps=")), None)
    needed = ("data", given.data, "data/cifar10"), ("size", given.size, "32"), ("eps", eps, "8/255")
    for option, value, example in needed:
        if value is None:
            raise UserError(f"{origin}: --{option} is missing, e.g. --{option} {example}")
    mean, std = _numbers("--mean", given.mean), _numbers("--std", given.std)
    typed: Any = OmegaConf.to_container(OmegaConf.from_dotlist([c for c in changes if c.startswith("model.options.")]))
    options = typed.get("model", {}).get("options")
    model, notes = pretrained.load(weights, given.arch, mean, std, options, given.weights_key)
    attack = {"attack": {"name": "autoattack"}}
    settings = {  # an evaluation only uses the data, the model, the threat and the attack
        "name": weights.stem,
        "threat": {"norm": "Linf"},
        "data": {"path": str(given.data), "size": given.size, "channels": len(notes.mean), "batch_size": 1},
        "model": notes.model.model_dump(mode="json"),
        "attack": {"name": "standard"},
        "epochs": 1,
        "optim": {"lr": 1.0, "lr_batch": 1},
        "schedule": {"name": "cosine"},
        "evaluation": {"monitor": attack, "final": attack},
    }
    config = parse(settings, changes, origin)
    if config.model != notes.model:
        raise UserError(f"{origin}: say what the network is with --arch, --mean, --std and model.options.…=")
    split = read_splits(config.data.path, config.data.skips)[1]
    found = class_names.find(weights, notes.outputs, notes.classes, given.classes, split.classes)
    split, matched = match(split, found.names, found.origin)
    said = [*notes.said, *found.said, *matched, _shape(config.data), *listing.remark(split.root, split.unread)]
    return Subject(config, model, split, out or Path("evaluations") / weights.stem, said)


def _numbers(option: str, text: str | None) -> tuple[float, ...] | None:
    try:
        return None if text is None else tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"{option} {text}: give a number a channel, e.g. {option} 0.5,0.5,0.5") from None


def _shape(data: DataSettings) -> str:
    """How images of other shapes are brought to the network's, which published numbers depend on."""
    size, shorter = data.size, round(data.size / EVAL_CROP)
    if data.augment == "resized_crop_flip":
        return f"each image's shorter side is resized to {shorter}, its middle of {size} x {size} is used"
    return (
        f"each image is resized to {size} x {size}, whatever its shape; data.augment=resized_crop_flip resizes the "
        f"shorter side to {shorter} and uses the middle, as is usual with ImageNet"
    )
