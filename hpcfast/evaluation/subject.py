"""What ``hpcfast eval`` measures: a finished run, or weights from elsewhere."""

from pathlib import Path
from typing import Any, NamedTuple, cast

from omegaconf import OmegaConf

from hpcfast.config import parse, read_run
from hpcfast.data import DataSettings, folder
from hpcfast.data.reader import read_splits
from hpcfast.data.resize import EVAL_CROP
from hpcfast.data.split import match
from hpcfast.errors import UserError
from hpcfast.evaluation.session import Subject
from hpcfast.models import pretrained, saved
from hpcfast.models.pretrained import class_names
from hpcfast.runs.directory import RunDirectory


def of_run(run: Path, changes: list[str], out: Path | None) -> Subject:
    """A finished run, on its own validation images.

    Raises:
        UserError: there is none, or a setting is wrong.
    """
    directory = RunDirectory(run)
    config = read_run(directory, changes)
    model, classes = saved.load(directory, config.model)
    split, said = match(read_splits(config.data.path, config.data.skips)[1], classes, str(run))
    said += folder.remark(split)
    return Subject(config, model, split, out or directory.evaluations, said)


class Elsewhere(NamedTuple):
    """What ``--weights`` and the options with it say, as they were typed."""

    weights: Path
    key: str | None
    arch: str | None
    mean: str | None
    std: str | None
    classes: Path | None
    data: Path | None
    size: int | None


def of_weights(given: Elsewhere, changes: list[str], out: Path | None) -> Subject:
    """Weights from elsewhere, on the validation images in ``given.data``.

    Raises:
        UserError: something is missing or wrong; the message says what to give.
    """
    weights = given.weights
    eps = next((change for change in changes if change.startswith("threat.eps=")), None)
    needed = ("data", given.data, "data/cifar10"), ("size", given.size, "32"), ("eps", eps, "8/255")
    for option, value, example in needed:
        if value is None:
            raise UserError(f"--weights {weights}: --{option} is missing, e.g. --{option} {example}")
    normalisation = _numbers("--mean", given.mean), _numbers("--std", given.std)
    options = _options(changes)
    model, notes = pretrained.load(weights, given.arch, *normalisation, options=options, key=given.key)
    config = parse(_settings(given, notes), changes, f"--weights {weights}")
    if config.model != notes.model:
        raise UserError(f"--weights {weights}: say what the network is with --arch, --mean, --std and model.options.…=")
    split = read_splits(config.data.path, config.data.skips)[1]
    found = class_names.find(weights, notes.outputs, notes.classes, given.classes, split.classes)
    split, matched = match(split, found.names, found.origin)
    said = [*notes.said, *found.said, *matched, _shape(config.data), *folder.remark(split)]
    return Subject(config, model, split, out or Path("evaluations") / weights.stem, said)


def _settings(given: Elsewhere, notes: pretrained.Notes) -> dict[str, Any]:
    """A configuration of which an evaluation only uses the data, the model, the threat and the attack."""
    attack = {"attack": {"name": "autoattack"}}
    return {
        "name": given.weights.stem,
        "threat": {"norm": "Linf"},
        "data": {"path": str(given.data), "size": given.size, "channels": len(notes.mean), "batch_size": 1},
        "model": notes.model.model_dump(mode="json"),
        "attack": {"name": "standard"},
        "epochs": 1,
        "optim": {"lr": 1.0, "lr_batch": 1},
        "schedule": {"name": "cosine"},
        "evaluation": {"monitor": attack, "final": attack},
    }


def _shape(data: DataSettings) -> str:
    """How images of other shapes are brought to the network's, which published numbers depend on."""
    size = data.size
    if data.augment == "resized_crop_flip":
        return (
            f"each image's shorter side is resized to {round(size / EVAL_CROP)}, its middle of {size} x {size} is used"
        )
    return (
        f"each image is resized to {size} x {size}, whatever its shape; data.augment=resized_crop_flip resizes the "
        f"shorter side to {round(size / EVAL_CROP)} and uses the middle, as is usual with ImageNet"
    )


def _options(changes: list[str]) -> dict[str, Any] | None:
    """The network's options among settings that were typed, ``model.options.width=32``."""
    chosen = OmegaConf.from_dotlist([change for change in changes if change.startswith("model.options.")])
    found = OmegaConf.select(chosen, "model.options")
    return None if found is None else cast("dict[str, Any]", OmegaConf.to_container(found))


def _numbers(option: str, text: str | None) -> tuple[float, ...] | None:
    try:
        return None if text is None else tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"{option} {text}: give a number a channel, e.g. {option} 0.5,0.5,0.5") from None
