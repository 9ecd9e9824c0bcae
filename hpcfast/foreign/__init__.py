"""Weights that somebody else has trained, or that an export left, as a model that takes images in [0,1].

The formats of torchvision, timm, MadryLab's robustness and RobustBench differ in the names around the network's own
and in where the normalisation is; :mod:`~hpcfast.foreign.layouts` knows how. Nothing in a file is ever executed.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

from hpcfast.component import Invalid, validate
from hpcfast.errors import UserError
from hpcfast.foreign import files, fit, layouts
from hpcfast.models import ModelSettings

Numbers = Sequence[float] | None

USUAL = (
    "usual are mean 0.485,0.456,0.406 and std 0.229,0.224,0.225 for ImageNet, mean 0.4914,0.4822,0.4465 and std "
    "0.2471,0.2435,0.2616 for CIFAR-10; 0 and 1 for each channel if the weights expect pixels as they are"
)


class Notes(NamedTuple):
    """How a file was read."""

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
        """Pixels in [0,1], one a channel."""
        return self.model.mean

    @property
    def std(self) -> tuple[float, ...]:
        """Pixels in [0,1], one a channel."""
        return self.model.std


def load(
    path: Path,
    arch: str | None = None,
    mean: Numbers = None,
    std: Numbers = None,
    channels: int | None = None,
    options: dict[str, Any] | None = None,
) -> tuple[nn.Module, Notes]:
    """Build the network ``arch`` with the weights in ``path``, in eval mode on the CPU, float32.

    What is not given is taken from the file, or from what hpcfast wrote beside it (``FILE.json``, a run's
    ``model.json``).

    Args:
        path: a safetensors file, or one that torch.save wrote and that holds tensors and plain values only.
        arch: a name that timm or hpcfast knows.
        mean: to normalise with, pixels in [0,1], one number a channel; before what the file says.
        std: likewise, above 0.
        channels: of the images, as many as there must be numbers in ``mean``.
        options: of the network, as ``model.options`` of a configuration.

    Returns:
        The model: images (n, channels, h, w) with pixels in [0,1] to logits (n, classes); and how it was read.

    Raises:
        UserError: the file is missing, damaged, holds code or no weights, or does not suit what is wanted.
    """
    content = files.read(path)
    beside, classes = _beside(path)
    weights, found, said = layouts.unwrap(content, path)
    name = arch or beside.get("name")
    if name is None:
        raise UserError(f"{path} does not say which network it is for; name it, e.g. --arch resnet50")
    known = beside if name == beside.get("name") else {}
    mean, std = _normalisation(path, (mean, std), found, known, channels, said)
    values = {"name": name, "options": options or known.get("options", {}), "mean": mean, "std": std}
    try:
        settings = validate(ModelSettings, values)
    except Invalid as error:
        raise UserError(f"--arch, --mean, --std: {error}") from None
    model, outputs, more = fit.build(settings, weights, path)
    return model, Notes(settings, outputs, classes if known else None, said + more)


def _beside(path: Path) -> tuple[dict[str, Any], tuple[str, ...] | None]:
    """The model's settings and classes as hpcfast wrote them beside an export or a run's weights; else nothing."""
    names = [f"{path.name}.json", *(["model.json"] if path.name == "model.safetensors" else [])]
    for file in (path.with_name(name) for name in names):
        try:
            about = json.loads(file.read_text())
            about = about.get("hpcfast", about)
            settings = validate(ModelSettings, about["model"]).model_dump()
        except (OSError, ValueError, KeyError, TypeError, AttributeError):  # not there, or not ours
            continue
        names = about.get("classes")
        return settings, tuple(map(str, names)) if isinstance(names, list) else None
    return {}, None


def _normalisation(
    path: Path,
    given: tuple[Numbers, Numbers],
    found: tuple[Tensor, Tensor] | None,
    known: dict[str, Any],
    channels: int | None,
    said: list[str],
) -> tuple[list[float], list[float]]:
    """Mean and standard deviation: those given, else the file's, else those beside it."""
    if (given[0] is None) != (given[1] is None):
        raise UserError(f"--mean and --std belong together; give both or neither ({USUAL})")
    if given[0] is not None and given[1] is not None:
        mean, std = list(given[0]), list(given[1])
        if found:
            said.append("the file's own normalisation is not used: --mean and --std come first")
    elif found:
        mean, std = ([float(value) for value in tensor.flatten()] for tensor in found)
        said.append(f"normalisation from the file: mean {_shown(mean)}, std {_shown(std)}")
    elif known:
        mean, std = list(known["mean"]), list(known["std"])
        said.append(f"normalisation as written beside the file: mean {_shown(mean)}, std {_shown(std)}")
    else:
        raise UserError(f"{path} does not say how images are normalised; give --mean and --std ({USUAL})")
    wanted = len(mean) if channels is None else channels
    if not len(mean) == len(std) == wanted:
        raise UserError(
            f"mean {_shown(mean)} has {len(mean)} numbers, std {_shown(std)} has {len(std)}: "
            f"both need one for each of {wanted} channels"
        )
    if not all(value > 0 for value in std):
        raise UserError(f"std {_shown(std)} must be above 0 in every channel, in pixels of [0,1]; 1 changes nothing")
    return mean, std


def _shown(values: list[float]) -> str:
    return ",".join(f"{value:.4g}" for value in values)
