"""Weights into the network that they are for; and where they are for another one, which."""

import re
from pathlib import Path

import torch
from torch import Tensor, nn

from hpcfast.errors import UserError
from hpcfast.models import ModelSettings

Weights = dict[str, Tensor]
Shapes = dict[str, tuple[int, ...]]

PROBE = 9973
"""A number of classes that is no width of any layer: tensors of this size belong to the classifier."""
COMMON = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "wide_resnet50_2", "densenet121",
          "cifar_resnet8", "cifar_resnet18", "cifar_resnet50")  # fmt: skip
"""What to compare with weights that do not fit."""
_COUNTER = "num_batches_tracked"
_BLOCK = re.compile(r"layer(\d+)\.(\d+)\.")


def build(settings: ModelSettings, weights: Weights, path: Path) -> tuple[nn.Module, int, list[str]]:
    """Return the network with ``weights`` in eval mode, how many classes it tells apart, and notes.

    Raises:
        UserError: the weights are another network's, or are for another number of channels.
    """
    notes = []
    skeleton = _skeleton(settings)
    if "stem.0.weight" in skeleton and "conv1.weight" in weights:
        weights = _cifar_names(weights)
        notes.append("names of a CIFAR-10 ResNet (conv1, layer1, linear) are read as hpcfast's")
    classes = _classes(skeleton, weights) or 2
    _check_channels(settings, skeleton, weights, path)
    model = settings.build(classes)
    net = model.get_submodule("net")
    own = net.state_dict()
    # BatchNorm's counts of batches, which training alone uses and files from before torch 0.4.1 lack.
    weights = {**{name: tensor for name, tensor in own.items() if name.endswith(_COUNTER)}, **weights}
    if wrong := _differences(_shapes(own), _shapes(weights)):
        raise UserError(f"{path} does not hold weights of {settings.name}: {wrong}. {_cure(settings, weights)}")
    net.load_state_dict(weights)
    return model.eval(), classes, notes


def _skeleton(settings: ModelSettings) -> Shapes:
    """Names and shapes of the network's tensors, with ``PROBE`` classes."""
    with torch.device("meta"):  # no memory, no random numbers
        return _shapes(settings.build(PROBE).get_submodule("net").state_dict())


def _shapes(weights: Weights) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in weights.items()}


def _classes(skeleton: Shapes, weights: Weights) -> int | None:
    """How many classes ``weights`` have, by the first dimension of the classifier's weights."""
    heads = [weights[name] for name, shape in skeleton.items() if shape[:1] == (PROBE,) and name in weights]
    return heads[0].shape[0] if heads and heads[0].dim() else None


def _check_channels(settings: ModelSettings, skeleton: Shapes, weights: Weights, path: Path) -> None:
    first = next((name for name, shape in skeleton.items() if len(shape) == 4), None)
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
    first = [name for names in groups.values() for name in names][:3]
    counts = ", ".join(f"{len(names)} {group}" for group, names in groups.items() if names)
    return f"{counts}; first {', '.join(first)}" if first else ""


def _cure(settings: ModelSettings, weights: Weights) -> str:
    for name in COMMON:
        skeleton = _skeleton(settings.model_copy(update={"name": name, "options": {}}))
        if any(_agree(skeleton, _shapes(names)) for names in (weights, _cifar_names(weights))):
            return f"They fit --arch {name}"
    return "Name the network they were trained for with --arch, and the options it was built with"


def _agree(skeleton: Shapes, shapes: Shapes) -> bool:
    """Whether both are one network's, but for the number of classes."""
    one, other = ({k: v for k, v in group.items() if not k.endswith(_COUNTER)} for group in (skeleton, shapes))
    return one.keys() == other.keys() and all(PROBE in one[name] or one[name] == other[name] for name in one)


def _cifar_names(weights: Weights) -> Weights:
    """Rename what the ResNets for CIFAR-10 of robustness and RobustBench call conv1, layer1.0, shortcut, linear."""
    blocks = sorted({(int(m[1]), int(m[2])) for name in weights if (m := _BLOCK.match(name))})
    place = {f"layer{stage}.{block}.": f"blocks.{i}." for i, (stage, block) in enumerate(blocks)}
    renamed = {}
    for name, tensor in weights.items():
        new = _BLOCK.sub(lambda m: place[m[0]], name, count=1).replace(".shortcut.", ".downsample.")
        for old, ours in (("conv1.", "stem.0."), ("bn1.", "stem.1."), ("linear.", "fc.")):
            if name.startswith(old):
                new = ours + name.removeprefix(old)
        renamed[new] = tensor
    return renamed
