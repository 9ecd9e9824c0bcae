"""Weights into the network that they are for; and where they are for another one, which."""

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from hpcfast.errors import UserError
from hpcfast.models import ModelSettings, not_finite
from hpcfast.models.pretrained.files import Weights, some

Shapes = dict[str, tuple[int, ...]]

PROBE = 9973
"""A number of classes that is no width of any layer: tensors of this size belong to the classifier."""
COUNTER = "num_batches_tracked"
"""BatchNorm's counts of batches, which training alone uses and files from before torch 0.4.1 lack."""
COMMON = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "wide_resnet50_2", "densenet121",
          "cifar_resnet8", "cifar_resnet18", "cifar_resnet50",
          "cifar_resnet20", "cifar_resnet32", "cifar_resnet44", "cifar_resnet56", "cifar_resnet110")  # fmt: skip
"""What to compare with weights that do not fit."""


def build(settings: ModelSettings, weights: Weights, path: Path, ordered: bool) -> tuple[nn.Module, int, list[str]]:
    """Return the network with ``weights`` in eval mode, how many classes it tells apart, and notes.

    Args:
        ordered: whether ``weights`` are in the order in which their network made them.

    Raises:
        UserError: the weights are another network's, for another number of channels, or not finite numbers.
    """
    wanted = skeleton(settings)
    given, notes = weights, []
    if ordered and (pairs := _same_order(wanted, _shapes(weights))):
        weights = {name: given[other] for name, other in pairs.items()}
        name, other = next(iter(pairs.items()))
        notes = [f"{len(pairs)} tensors with other names are matched by kind, shape and order: {other} is {name}, …"]
    heads = [weights[name] for name, shape in wanted.items() if shape[:1] == (PROBE,) and name in weights]
    classes = heads[0].shape[0] if heads and heads[0].dim() else 2
    model = settings.build(classes)
    net = model.get_submodule("net")
    own = net.state_dict()
    weights = {**{name: tensor for name, tensor in own.items() if name.endswith(COUNTER)}, **weights}
    if wrong := _differences(_shapes(own), _shapes(weights)):
        cure = _cure(settings, wanted, _shapes(given), ordered)
        raise UserError(f"{path} does not hold weights of {settings.name}: {wrong}. {cure}")
    for name, tensor in weights.items():
        if own[name].is_floating_point() and not tensor.is_floating_point():
            raise UserError(
                f"{path}: {name} holds {tensor.dtype}, not plain floating-point numbers; "
                f"quantised weights are not read, give those they were made from"
            )
    net.load_state_dict(weights)
    if odd := not_finite(net.state_dict()):
        raise UserError(f"{path}: {odd}; no number measured with it would mean anything. Give weights of before that")
    return model.eval(), classes, notes


def skeleton(settings: ModelSettings) -> Shapes:
    """Names and shapes of the network's tensors, with ``PROBE`` classes."""
    with torch.device("meta"):  # no memory, no random numbers
        return _shapes(settings.build(PROBE).get_submodule("net").state_dict())


def _shapes(weights: Weights) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in weights.items()}


def _differences(own: Shapes, found: Shapes) -> str:
    """How the names and shapes differ, in words; empty if they don't."""
    groups = {
        "missing": [f"{name} {own[name]}" for name in own if name not in found],
        "too many": [f"{name} {found[name]}" for name in found if name not in own],
        "of another shape": [
            f"{name} {found[name]} instead of {own[name]}" for name in own if name in found and own[name] != found[name]
        ],
    }
    return "; ".join(f"{len(names)} {group} ({some(names)})" for group, names in groups.items() if names)


def _cure(settings: ModelSettings, wanted: Shapes, found: Shapes, ordered: bool) -> str:
    first = next((name for name, shape in wanted.items() if len(shape) == 4), "")
    channels = found[first][1] if len(found.get(first, ())) == 4 else len(settings.mean)
    if channels != len(settings.mean):
        return (
            f"It takes images of {channels} channels ({first}), the mean has {len(settings.mean)} numbers; give --mean "
            f"and --std that many numbers, and images of as many channels"
        )
    for name in COMMON:
        other = skeleton(settings.model_copy(update={"name": name, "options": {}}))
        names = {*_counted(other)}
        agree = names == {*_counted(found)} and all(_alike(other[each], found[each]) for each in names)
        if agree or (ordered and _same_order(other, found)):
            return f"They fit --arch {name}"
    return (
        "Name the network they were trained for with --arch, and the options it was built with, "
        "e.g. model.options.width=32"
    )


def _counted(names: Shapes) -> list[str]:
    return [name for name in names if not name.endswith(COUNTER)]


def _alike(shape: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether a shape with ``PROBE`` classes is the other one, but for the number of classes."""
    return len(shape) == len(other) and all(a in (b, PROBE) for a, b in zip(shape, other, strict=True))


def _same_order(wanted: Shapes, found: Shapes) -> dict[str, str]:
    """The names in ``found`` of the tensors ``wanted``, where only names differ; otherwise empty.

    Tensors must agree one by one in kind (weight, bias, running_mean, …) and shape, and blocks in their limits: without
    those a network whose blocks begin with BatchNorm would pass for one whose blocks end with it.
    """
    own, theirs = _counted(wanted), _counted(found)
    if len(own) != len(theirs):
        return {}
    pairs = dict(zip(own, theirs, strict=True))
    if own == theirs or any(pairs[name] != name for name in {*own} & {*theirs}):
        return {}
    if not all(_alike(wanted[a], found[b]) and a.split(".")[-1] == b.split(".")[-1] for a, b in pairs.items()):
        return {}
    overlapping = ((a, b) for a in _blocks(own) for b in _blocks(theirs) if a & b)
    return pairs if all(a <= b or b <= a for a, b in overlapping) else {}


def _blocks(names: Sequence[str]) -> list[set[int]]:
    """Places of tensors whose names begin alike, up to the last number in them: ``blocks.0.1.conv.weight``."""
    groups: dict[str, set[int]] = {}
    for place, name in enumerate(names):
        numbered = re.match(r"(.*\.\d+)\.", name)
        groups.setdefault(numbered[1] if numbered else "", set()).add(place)
    return list(groups.values())
