"""Which tensors of a state dict are the network's own: what stands before their names, and what is beside them.

Wrappers put their own names before the network's: ``module.`` (DataParallel, averaged models), ``_orig_mod.``
(torch.compile), ``model.`` (Lightning), ``1.`` (a Sequential whose first layer normalises), in any order. So no list
of them is needed: the network's names are known, and what stands before them is the prefix.
"""

from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from hpcfast.errors import UserError

Weights = dict[str, Tensor]
Normalisation = tuple[list[float], list[float]]

MOMENTS = {"mean": "std", "new_mean": "new_std", "mu": "sigma", "_mean": "_std", "means": "sds",
           "pixel_mean": "pixel_std", "image_mean": "image_std"}  # fmt: skip
"""What layers that normalise call their mean and standard deviation."""
CHANNELS = 4
"""A mean of more numbers is none of pixels."""


class Named(NamedTuple):
    """A state dict, sorted out."""

    weights: Weights
    """The network's, by its own names, as far as a prefix tells."""
    normalisations: dict[str, Normalisation]
    """Mean and standard deviation, one number a channel, by what stands before their names."""
    notes: list[str]


def sort_out(weights: Weights, wanted: Collection[str], path: Path, key: str | None) -> Named:
    """Find the network whose tensors are called ``wanted`` in ``weights``.

    Args:
        key: stands before the names of the network that is wanted, where there are several.

    Raises:
        UserError: there are several networks and nothing says which, or none behind ``key``.
    """
    prefix, copies = _choose(weights, wanted, path, key)
    moments = _moments({name: tensor for name, tensor in weights.items() if name.removeprefix(prefix) not in wanted})
    used = {name for pair in moments.values() for name in pair}
    own = {
        name.removeprefix(prefix): tensor
        for name, tensor in weights.items()
        if name.startswith(prefix) and name not in used
    }
    notes = [f"names are read without their '{prefix}'"] if prefix else []
    beside = [name for name in weights if not name.startswith(prefix) and name not in used]
    if copied := [name for name in beside if copies and name.startswith(copies)]:
        notes.append(f"{len(copied)} tensors of '{', '.join(copies)}' are copies and left out")
    if left := [name for name in beside if name not in copied]:
        notes.append(f"{len(left)} tensors that are not the network's are left out: {some(left)}")
    values = {
        head: (weights[mean].flatten().tolist(), weights[std].flatten().tolist())
        for head, (mean, std) in moments.items()
    }
    return Named(own, values, notes)


def _choose(weights: Weights, wanted: Collection[str], path: Path, key: str | None) -> tuple[str, tuple[str, ...]]:
    """What stands before the network's names; and before those of its copies."""
    counts: Counter[str] = Counter()
    for name in weights:
        parts = name.split(".")
        for i in range(len(parts)):
            if ".".join(parts[i:]) in wanted:
                counts["".join(f"{part}." for part in parts[:i])] += 1
    networks = [prefix for prefix, count in counts.items() if count > len(wanted) / 2]
    if key is not None:
        asked = [prefix for prefix in (key, f"{key}.") if prefix in networks]
        if not asked:
            found = ", ".join(f"'{prefix}'" for prefix in networks if prefix) or "none"
            raise UserError(
                f"--weights-key {key}: {path} has no weights under it; leave it out, or name a dict in the file or "
                f"what is before the names of one of its networks (there are: {found})"
            )
        return asked[0], ()
    if not networks:
        return _shared(weights), ()
    most = max(counts.values())
    first, *others = sorted((prefix for prefix in networks if counts[prefix] == most), key=len)
    if different := [other for other in others if not _same(weights, first, other, wanted)]:
        raise UserError(
            f"{path} holds several networks, with '{first}' and '{different[0]}' before their names; choose one with "
            f"--weights-key {different[0]}"
        )
    return first, tuple(others)


def _same(weights: Weights, one: str, other: str, wanted: Collection[str]) -> bool:
    pairs = ((weights.get(one + name), weights.get(other + name)) for name in wanted)
    return all(a is b or (a is not None and b is not None and torch.equal(a, b)) for a, b in pairs)


def _shared(weights: Weights) -> str:
    """What stands before all names, but for those of single numbers and of what normalises."""
    names = [name.split(".") for name, tensor in weights.items() if tensor.dim() and not _is_moment(name, tensor)]
    prefix = ""
    for parts in zip(*(name[:-2] for name in names), strict=False):
        if len({*parts}) > 1:
            break
        prefix += f"{parts[0]}."
    return prefix


def _is_moment(name: str, tensor: Tensor) -> bool:
    return name.rpartition(".")[2] in {*MOMENTS, *MOMENTS.values()} and tensor.numel() <= CHANNELS


def _moments(weights: Weights) -> dict[str, tuple[str, str]]:
    """Names of the means and standard deviations, by what stands before both."""
    found = {}
    for name, tensor in weights.items():
        head, dot, last = name.rpartition(".")
        other = f"{head}{dot}{MOMENTS.get(last)}"
        if _is_moment(name, tensor) and other in weights and weights[other].numel() == tensor.numel():
            found[head] = (name, other)
    return found


def some(names: list[str]) -> str:
    """The first names, for a message."""
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
