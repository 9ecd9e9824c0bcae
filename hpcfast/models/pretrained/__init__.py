"""Weights that somebody else has trained, or that an export left, as a model that takes images in [0,1].

Files differ in where the weights are (:mod:`.files`), in what tensors and classes are called (:mod:`.fit`,
:mod:`.class_names`) and in where the normalisation is. Nothing in a file is ever executed.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from hpcfast.component import Invalid, validate
from hpcfast.errors import UserError
from hpcfast.models import ModelSettings
from hpcfast.models.pretrained import files, fit
from hpcfast.models.pretrained.files import Normalisation
from hpcfast.runs.reading import read_json

Numbers = Sequence[float] | None
USUAL = (
    "usual are mean 0.485,0.456,0.406 and std 0.229,0.224,0.225 for ImageNet, mean 0.4914,0.4822,0.4465 and std "
    "0.2471,0.2435,0.2616 for CIFAR-10; 0 and 1 for each channel if the weights expect pixels as they are"
)


class Notes(NamedTuple):
    """How a file was read; ``mean`` and ``std`` are of pixels in [0,1], one a channel."""

    model: ModelSettings
    """The network that it turned out to be."""
    outputs: int
    """Classes that it tells apart."""
    classes: tuple[str, ...] | None
    """Their names, in the order of the logits, where hpcfast wrote them beside the file; None: nobody says."""
    said: list[str]
    """What a person should know, a sentence each."""

    @property
    def mean(self) -> tuple[float, ...]:
        return self.model.mean

    @property
    def std(self) -> tuple[float, ...]:
        return self.model.std


def load(
    path: Path,
    arch: str | None = None,
    mean: Numbers = None,
    std: Numbers = None,
    options: dict[str, Any] | None = None,
    key: str | None = None,
) -> tuple[nn.Module, Notes]:
    """Build the network ``arch`` with the weights in ``path``, in eval mode on the CPU, float32.

    What is not given is taken from the file, or from what hpcfast wrote beside it (``FILE.json``, a run's
    ``model.json``).

    Args:
        path: a safetensors file, or one that torch.save wrote and that holds tensors and plain values only.
        arch: a name that timm or hpcfast knows.
        mean: to normalise with, pixels in [0,1], one number a channel; before what the file says.
        std: likewise, above 0.
        options: of the network, as ``model.options`` of a configuration.
        key: of the dict in the file that has the weights, or what stands before their names; needed where there
            are several and those of an average are wanted.

    Returns:
        The model: images (n, len(mean), h, w) with pixels in [0,1] to logits (n, classes); and how it was read.

    Raises:
        UserError: the file is missing, damaged, holds code or no weights, numbers that are not finite, or does not
            suit what is wanted.
    """
    content, ordered = files.read(path)
    beside, classes = _beside(path)
    name = arch or beside.get("name")
    if name is None:
        raise UserError(f"{path} does not say which network it is for; name it, e.g. --arch resnet50")
    known = beside if name == beside.get("name") else {}
    values = {"name": name, "options": options or known.get("options", {})}
    anything = _settings({**values, "mean": (0.5,) * 3, "std": (0.5,) * 3}, f"--arch {name}")
    weights, normalisations, notes = files.find(content, fit.skeleton(anything), path, key)
    moments, origin, more = _normalisation(path, (mean, std), normalisations, known)
    settings = _settings({**values, **moments}, origin)
    model, outputs, renamed = fit.build(settings, weights, path, ordered)
    return model, Notes(settings, outputs, classes if known else None, [*notes, *more, *renamed])


def _normalisation(
    path: Path, given: tuple[Numbers, Numbers], found: dict[str, Normalisation], known: dict[str, Any]
) -> tuple[dict[str, list[float]], str, list[str]]:
    """Mean and standard deviation: those given, else the file's (``found``), else those ``known`` from beside it.

    Besides, where they are from, for messages; and what a person should know.
    """
    mean, std = given
    if (mean is None) != (std is None):
        raise UserError(f"--mean and --std belong together; give both or neither ({USUAL})")
    said = []
    if mean is not None and std is not None:
        origin = "--mean, --std"
        if found:
            said = ["the file's own normalisation is not used: --mean and --std come first"]
    elif found:
        (mean, std), *others = found.values()
        if any(other != (mean, std) for other in others):
            names = ", ".join(f"'{head}'" for head in found)
            raise UserError(f"{path} normalises in several ways, in {names}; say how with --mean and --std")
        origin = f"the normalisation in {path}"
        said = [f"normalisation from the file: mean {_shown(mean)}, std {_shown(std)}"]
    elif known:
        mean, std, origin = known["mean"], known["std"], f"the file beside {path}"
        said = [f"normalisation as written beside the file: mean {_shown(mean)}, std {_shown(std)}"]
    else:
        raise UserError(f"{path} does not say how images are normalised; give --mean and --std ({USUAL})")
    if len(mean) != len(std):
        raise UserError(
            f"{origin}: mean {_shown(mean)} has {len(mean)} numbers, std {_shown(std)} has {len(std)}: "
            f"both need one for each channel"
        )
    return {"mean": list(mean), "std": list(std)}, origin, said


def _shown(values: Sequence[float]) -> str:
    return ",".join(f"{value:.4g}" for value in values)


def _settings(values: dict[str, Any], origin: str) -> ModelSettings:
    try:
        return validate(ModelSettings, values)
    except Invalid as error:
        raise UserError(f"{origin}: {error}") from None


def _beside(path: Path) -> tuple[dict[str, Any], tuple[str, ...] | None]:
    """The model's settings and classes as hpcfast wrote them beside an export or a run's weights; else nothing."""
    names = [f"{path.name}.json", *(["model.json"] if path.name == "model.safetensors" else [])]
    for file in (path.with_name(name) for name in names):
        try:
            about = read_json(file)
            about = about.get("hpcfast", about)
            settings = validate(ModelSettings, about["model"]).model_dump()
        except (OSError, ValueError, KeyError, TypeError, AttributeError):  # not there, or not ours
            continue
        names = about.get("classes")
        return settings, tuple(map(str, names)) if isinstance(names, list) else None
    return {}, None
