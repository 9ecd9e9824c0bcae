"""Where in a file the weights of a network are: in which dict, and behind which prefix.

Tools put names of their own before the network's: a dict's key (``state_dict``, ``model``), ``module.`` (DataParallel,
averaged models), ``_orig_mod.`` (torch.compile), ``model.`` (Lightning), ``1.`` (a Sequential whose first layer
normalises), in any order. No list of them is needed: the network's names are known, and what stands before is found.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

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


class Found(NamedTuple):
    """What a file holds."""

    weights: Weights
    """The network's, by its own names, as far as a prefix tells."""
    normalisations: dict[str, Normalisation]
    """Mean and standard deviation, one number a channel, by what stands before their names."""
    notes: list[str]


class _Place(NamedTuple):
    """Where a network is, or may be."""

    nest: str
    """Keys of the dicts around it, with dots; empty at the top."""
    prefix: str
    score: tuple[int, int]
    """How many of the wanted names it has; where that is none, how many tensors."""

    @property
    def label(self) -> str:
        return f"{self.nest}.{self.prefix}".strip(".")

    @property
    def is_average(self) -> bool:
        """Whether it is called an exponential moving average (``state_dict_ema``)."""
        return "ema" in re.split(r"[._]", self.label)


def find(content: Any, wanted: Collection[str], path: Path, key: str | None) -> Found:
    """Find the network whose tensors are called ``wanted`` in ``content``.

    Args:
        key: of the dict that has it, or what stands before its names; needed where there are several.

    Raises:
        UserError: there are no tensors, several networks and nothing says which, or none behind ``key``.
    """
    dicts = dict(_dicts(content, ""))
    if not dicts:
        is_dict = isinstance(content, dict)
        keys = ", ".join(f"'{key}'" for key in list(content)[:5]) if is_dict else type(content).__name__
        raise UserError(
            f"{path} holds no state dict (found: {keys or 'nothing'}); save one, as it is or under a key such as "
            f"state_dict, model"
        )
    (nest, prefix, _), others = _choose(dicts, wanted, path, key)
    tensors = dicts[nest]
    moments = _moments({name: tensor for name, tensor in tensors.items() if name.removeprefix(prefix) not in wanted})
    rest = {name: tensor for name, tensor in tensors.items() if name not in {*sum(moments.values(), ())}}
    weights = {name.removeprefix(prefix): tensor for name, tensor in rest.items() if name.startswith(prefix)}
    notes = [f"weights found under '{nest}'"] if nest else []
    if others:
        names = ", ".join(f"'{other}'" for other in others)
        notes.append(f"the file also has weights under {names}; --weights-key {others[0]} takes those")
    if prefix:
        notes.append(f"names are read without their '{prefix}'")
    if left := [name for name in rest if not name.startswith(prefix)]:
        notes.append(f"{len(left)} tensors that are not the network's are left out: {some(left)}")
    numbers = {head: (_listed(tensors[mean]), _listed(tensors[std])) for head, (mean, std) in moments.items()}
    return Found(weights, numbers, notes)


def _dicts(value: Any, place: str) -> Iterator[tuple[str, Weights]]:
    """Every dict that has tensors in it, by its place in ``value``; but for those of optimizers."""
    if not isinstance(value, dict):
        return
    named = {name: inner for name, inner in value.items() if isinstance(name, str) and not name.startswith("optim")}
    if tensors := {name: inner for name, inner in named.items() if isinstance(inner, Tensor)}:
        yield place, tensors
    for name, inner in named.items():
        yield from _dicts(inner, f"{place}.{name}" if place else name)


def _choose(
    dicts: dict[str, Weights], wanted: Collection[str], path: Path, key: str | None
) -> tuple[_Place, list[str]]:
    """Where the wanted network is; and the other dicts that have one like it."""
    places = [place for nest, weights in dicts.items() for place in _places(nest, weights, wanted)]
    asked = [place for place in places if key is None or f".{key.strip('.')}." in f".{place.label}."]
    if not asked:
        labels = ", ".join(f"'{place.label}'" for place in places if place.label) or "none"
        raise UserError(
            f"--weights-key {key}: {path} has no weights under it; leave it out, or name a dict in the file or "
            f"what is before the names of one of its networks (there are: {labels})"
        )
    best = [place for place in asked if place.score == max(place.score for place in asked)]
    plain = [place for place in best if not place.is_average] or best
    first, *rest = sorted(plain, key=lambda place: len(place.label))
    if any(not _same(dicts, first, other, wanted) for other in rest):
        labels = ", ".join(f"'{place.label}'" for place in plain)
        raise UserError(f"{path} holds several networks: {labels}; choose one, e.g. --weights-key {plain[0].label}")
    return first, [place.nest for place in places if place.score == first.score and place.nest != first.nest]


def _places(nest: str, weights: Weights, wanted: Collection[str]) -> list[_Place]:
    """Where in a dict most of the names ``wanted`` are; where they are nowhere, its one prefix."""
    counts: Counter[str] = Counter()
    for name in weights:
        parts = name.split(".")
        for i in range(len(parts)):
            if ".".join(parts[i:]) in wanted:
                counts["".join(f"{part}." for part in parts[:i])] += 1
    found = [_Place(nest, prefix, (count, 0)) for prefix, count in counts.items() if count > len(wanted) / 2]
    return found or [_Place(nest, _shared(weights), (0, len(weights)))]


def _same(dicts: dict[str, Weights], one: _Place, other: _Place, wanted: Collection[str]) -> bool:
    mine, theirs = dicts[one.nest], dicts[other.nest]
    names = wanted if one.score[0] else [name.removeprefix(one.prefix) for name in mine]
    pairs = ((mine.get(one.prefix + name), theirs.get(other.prefix + name)) for name in names)
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


def _listed(tensor: Tensor) -> list[float]:
    return [float(value) for value in tensor.flatten()]


def some(names: list[str]) -> str:
    """The first names, for a message."""
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
