"""Other names for the same network: those of CIFAR-10's ResNets, and any where kinds, shapes and order agree."""

import re
from collections.abc import Sequence

from torch import Tensor

Weights = dict[str, Tensor]
Shapes = dict[str, tuple[int, ...]]

PROBE = 9973
"""A number of classes that is no width of any layer: tensors of this size belong to the classifier."""
COUNTER = "num_batches_tracked"
_BLOCK = re.compile(r"layer(\d+)\.(\d+)\.")


def rename(weights: Weights, wanted: Shapes, ordered: bool) -> tuple[Weights, list[str]]:
    """``weights`` under the names ``wanted``, as far as it can be told, and a note of how.

    Args:
        wanted: of the network with ``PROBE`` classes, in its order.
        ordered: whether ``weights`` are in the order in which their network made them.
    """
    if "stem.0.weight" in wanted and "conv1.weight" in weights:
        return of_cifar(weights), ["names of a CIFAR-10 ResNet (conv1, layer1, linear) are read as hpcfast's"]
    own, found = ([name for name in names if not name.endswith(COUNTER)] for names in (wanted, weights))
    if {*own} & {*found} or not ordered or not _same_order(own, found, wanted, shapes(weights)):
        return weights, []
    note = f"{len(found)} tensors with other names are matched by kind, shape and order: {found[0]} is {own[0]}, …"
    return {name: weights[theirs] for name, theirs in zip(own, found, strict=True)}, [note]


def shapes(weights: Weights) -> Shapes:
    """The shapes of tensors, by their names."""
    return {name: tuple(tensor.shape) for name, tensor in weights.items()}


def alike(shape: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether a shape with ``PROBE`` classes and another are the same, but for the number of classes."""
    return len(shape) == len(other) and all(a in (b, PROBE) for a, b in zip(shape, other, strict=True))


def of_cifar(weights: Weights) -> Weights:
    """Rename what the ResNets for CIFAR-10 of others call conv1, layer1.0, shortcut, linear."""
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


def _same_order(own: Sequence[str], found: Sequence[str], wanted: Shapes, theirs: Shapes) -> bool:
    """Whether tensors agree one by one in kind (weight, bias, running_mean, …) and shape, and blocks in their limits.

    Without the limits a network whose blocks begin with BatchNorm would pass for one whose blocks end with it.
    """
    if len(own) != len(found):
        return False
    pairs = list(zip(own, found, strict=True))
    if not all(_kind(a) == _kind(b) and alike(wanted[a], theirs[b]) for a, b in pairs):
        return False
    ours, others = (_blocks(names) for names in (own, found))
    overlapping = ((a, b) for a in ours for b in others if a & b)
    return all(a <= b or b <= a for a, b in overlapping)


def _kind(name: str) -> str:
    return name.rpartition(".")[2]


def _blocks(names: Sequence[str]) -> list[set[int]]:
    """Places of tensors whose names begin alike, up to the last number in them: ``blocks.0.1.conv.weight``."""
    groups: dict[str, set[int]] = {}
    for place, name in enumerate(names):
        numbered = re.match(r"(.*\.\d+)\.", name)
        groups.setdefault(numbered[1] if numbered else "", set()).add(place)
    return list(groups.values())
