"""Weights that somebody else has trained, or that an export left, as a model that takes images in [0,1].

Files differ in where the weights are (:mod:`.layouts`), in where the normalisation is (:mod:`.normalisation`) and in
what tensors and classes are called (:mod:`.fit`, :mod:`.class_names`). Nothing in a file is ever executed.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from hpcfast.component import Invalid, validate
from hpcfast.errors import UserError
from hpcfast.models import ModelSettings
from hpcfast.models.pretrained import files, fit, layouts, normalisation
from hpcfast.models.pretrained.normalisation import Numbers


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
    found = layouts.find(content, fit.skeleton(anything), path, key)
    moments, origin, more = normalisation.choose(path, (mean, std), found.normalisations, known)
    settings = _settings({**values, "mean": moments[0], "std": moments[1]}, origin)
    model, outputs, renamed = fit.build(settings, found.weights, path, ordered)
    return model, Notes(settings, outputs, classes if known else None, [*found.notes, *more, *renamed])


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
            about = json.loads(file.read_text())
            about = about.get("hpcfast", about)
            settings = validate(ModelSettings, about["model"]).model_dump()
        except (OSError, ValueError, KeyError, TypeError, AttributeError):  # not there, or not ours
            continue
        names = about.get("classes")
        return settings, tuple(map(str, names)) if isinstance(names, list) else None
    return {}, None
