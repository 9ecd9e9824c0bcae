"""Weights into the network that they are for; and where they are for another one, which."""

from pathlib import Path

import torch
from torch import Tensor, nn

from hpcfast.errors import UserError
from hpcfast.models import ModelSettings, not_finite
from hpcfast.models.pretrained import renaming
from hpcfast.models.pretrained.naming import some
from hpcfast.models.pretrained.renaming import COUNTER, PROBE, Shapes, Weights, alike, shapes

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
    weights, notes = renaming.rename(weights, wanted, ordered)
    _check_channels(settings, wanted, weights, path)
    classes = _classes(wanted, weights) or 2
    model = settings.build(classes)
    net = model.get_submodule("net")
    own = net.state_dict()
    # BatchNorm's counts of batches, which training alone uses and files from before torch 0.4.1 lack.
    weights = {**{name: tensor for name, tensor in own.items() if name.endswith(COUNTER)}, **weights}
    if wrong := _differences(shapes(own), shapes(weights)):
        raise UserError(f"{path} does not hold weights of {settings.name}: {wrong}. {_cure(settings, weights)}")
    if whole := [name for name, tensor in weights.items() if own[name].is_floating_point() and not _is_plain(tensor)]:
        raise UserError(
            f"{path}: {whole[0]} holds {weights[whole[0]].dtype}, not plain floating-point numbers; "
            f"quantised weights are not read, give those they were made from"
        )
    net.load_state_dict(weights)
    if odd := not_finite(net.state_dict()):
        raise UserError(f"{path}: {odd}; no number measured with it would mean anything. Give weights of before that")
    return model.eval(), classes, notes


def skeleton(settings: ModelSettings) -> Shapes:
    """Names and shapes of the network's tensors, with ``PROBE`` classes."""
    with torch.device("meta"):  # no memory, no random numbers
        return shapes(settings.build(PROBE).get_submodule("net").state_dict())


def _is_plain(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and not tensor.is_quantized


def _classes(wanted: Shapes, weights: Weights) -> int | None:
    """How many classes ``weights`` have, by the first dimension of the classifier's weights."""
    heads = [weights[name] for name, shape in wanted.items() if shape[:1] == (PROBE,) and name in weights]
    return heads[0].shape[0] if heads and heads[0].dim() else None


def _check_channels(settings: ModelSettings, wanted: Shapes, weights: Weights, path: Path) -> None:
    first = next((name for name, shape in wanted.items() if len(shape) == 4), None)
    if first in weights and weights[first].dim() == 4 and weights[first].shape[1] != len(settings.mean):
        raise UserError(
            f"{path} takes images of {weights[first].shape[1]} channels ({first}), the mean has {len(settings.mean)} "
            f"numbers; give --mean and --std that many numbers, and images of as many channels"
        )


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


def _cure(settings: ModelSettings, weights: Weights) -> str:
    for name in COMMON:
        other = skeleton(settings.model_copy(update={"name": name, "options": {}}))
        if any(_agree(other, shapes(names)) for names in (weights, renaming.of_cifar(weights))):
            return f"They fit --arch {name}"
    return (
        "Name the network they were trained for with --arch, and the options it was built with, "
        "e.g. model.options.width=32"
    )


def _agree(one: Shapes, other: Shapes) -> bool:
    """Whether both are one network's, but for the number of classes."""
    one, other = ({k: v for k, v in group.items() if not k.endswith(COUNTER)} for group in (one, other))
    return one.keys() == other.keys() and all(alike(one[name], other[name]) for name in one)
