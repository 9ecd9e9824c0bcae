"""Files of weights: read without running anything in them, and where in them, behind which names, the network is.

Tools put names of their own before the network's: a dict's key (``state_dict``, ``model``), ``module.`` (DataParallel,
averaged models), ``_orig_mod.`` (torch.compile), ``model.`` (Lightning), ``1.`` (a Sequential whose first layer
normalises), in any order. No list of them is needed: the network's names are known, and what stands before is found.
"""

import pickle
import re
import warnings
import zipfile
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from hpcfast.errors import UserError

Weights = dict[str, Tensor]
Normalisation = tuple[list[float], list[float]]

MOMENTS = {"mean": "std", "new_mean": "new_std", "mu": "sigma", "_mean": "_std", "means": "sds",
           "pixel_mean": "pixel_std", "image_mean": "image_std"}  # fmt: skip
"""What layers that normalise call their mean and standard deviation."""
CHANNELS = 4
"""A mean of more numbers is none of pixels."""
RESAVE = "torch.save({name: tensor.cpu() for name, tensor in model.state_dict().items()}, 'weights.pt')"


class _Place(NamedTuple):
    """Where a network is, or may be: in the dict under ``nest`` (keys with dots), behind ``prefix``."""

    nest: str
    prefix: str
    tensors: Weights
    """All of the dict's."""
    score: tuple[int, int]
    """How many of the wanted names it has; where that is none, how many tensors."""

    @property
    def label(self) -> str:
        return f"{self.nest}.{self.prefix}".strip(".")

    @property
    def network(self) -> Weights:
        """Those behind the prefix, without it."""
        return {n.removeprefix(self.prefix): tensor for n, tensor in self.tensors.items() if n.startswith(self.prefix)}


def read(path: Path) -> tuple[Any, bool]:
    """What a safetensors file or a file of torch.save holds, on the CPU. Its first bytes tell which it is.

    Returns:
        The contents; and whether tensors in it are in the order in which they were saved, which safetensors sort.

    Raises:
        UserError: it is missing, damaged, neither of the two, or holds more than tensors and plain values.
    """
    try:
        with path.open("rb") as file:
            head = file.read(9)
    except OSError as error:
        raise UserError(f"no weights {path} ({error.strerror}); give a .safetensors, .pt or .pth file") from None
    if head[8:] == b"{":  # after the length of its JSON header
        try:
            return load_file(path), False
        except (OSError, SafetensorError) as error:
            raise UserError(f"{path} is damaged or cut short ({error}); copy it again") from None
    if head[:2] in (b"PK", b"\x80\x02"):  # a zip archive, or the pickle that torch wrote before version 1.6
        return _read_torch(path), True
    raise UserError(
        f"{path} is neither a safetensors file nor one of torch.save (it begins with {head!r}). "
        f"If it was cut short, copy it again; of a program (ONNX) use the weights it was made from"
    )


def _read_torch(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what it warns of is refused below
            _refuse_inflated(path)
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - of a damaged file torch raises whatever it runs into
        is_pickled = isinstance(error, pickle.UnpicklingError)
        if is_pickled and (found := re.search(r"GLOBAL (\S+)", str(error))):
            raise UserError(
                f"{path} holds code ({found[1]}), which loading it would run; only tensors and plain values are read. "
                f"Save the weights anew with the tool that made the file: {RESAVE}"
            ) from None
        if not is_pickled and "TorchScript" in str(error):
            raise UserError(f"{path} is a TorchScript program; save the weights it was made from: {RESAVE}") from None
        why = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{path} is damaged, cut short or not written by torch.save ({why}); copy it again") from None


def _refuse_inflated(path: Path) -> None:
    """Raise ValueError for an archive that would take more memory than its file; torch.save packs tensors as they are.

    They could be compressed, or all lie at the same place.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > path.stat().st_size:
                raise ValueError("it unpacks to more than its size")


def find(
    content: Any, wanted: Collection[str], path: Path, key: str | None
) -> tuple[Weights, dict[str, Normalisation], list[str]]:
    """Find the network whose tensors are called ``wanted`` in ``content``.

    Args:
        key: of the dict that has it, or what stands before its names; needed where there are several.

    Returns:
        The network's tensors, by its own names as far as a prefix tells; mean and standard deviation, one number a
        channel, by what stands before their names; and notes.

    Raises:
        UserError: there are no tensors, several networks and nothing says which, or none behind ``key``.
    """
    try:
        places = [place for nest, tensors in _dicts(content, "", {}) for place in _places(nest, tensors, wanted)]
    except RecursionError:
        raise UserError(f"{path} nests dicts without end; save the state dict alone") from None
    if not places:
        is_dict = isinstance(content, dict)
        keys = ", ".join(f"'{key}'" for key in list(content)[:5]) if is_dict else type(content).__name__
        raise UserError(
            f"{path} holds no state dict (found: {keys or 'nothing'}); save one, as it is or under a key such as "
            f"state_dict, model"
        )
    place, others = _choose(places, wanted, path, key)
    moments = _moments({n: t for n, t in place.tensors.items() if n.removeprefix(place.prefix) not in wanted})
    for name, tensor in place.tensors.items():
        used = name.startswith(place.prefix) or any(name in pair for pair in moments.values())
        if used and (tensor.layout != torch.strided or tensor.is_meta or tensor.is_nested):
            raise UserError(f"{path}: {name} is sparse, nested or without numbers (meta); save plain tensors: {RESAVE}")
    numbers = {head: (_taken(place, mean), _taken(place, std)) for head, (mean, std) in moments.items()}
    notes = [f"weights found under '{place.nest}'"] if place.nest else []
    if others:
        names = ", ".join(f"'{other}'" for other in others)
        notes.append(f"the file also has weights under {names}; --weights-key {others[0]} takes those")
    if place.prefix:
        notes.append(f"names are read without their '{place.prefix}'")
    if left := [name for name in place.tensors if not name.startswith(place.prefix)]:
        notes.append(f"{len(left)} tensors that are not the network's are left out: {some(left)}")
    return place.network, numbers, notes


def _dicts(value: Any, place: str, seen: dict[int, Any]) -> Iterator[tuple[str, Weights]]:
    """Every dict that has tensors in it, by its place in ``value``, once; but for those of optimizers."""
    if not isinstance(value, dict) or id(value) in seen:
        return
    seen[id(value)] = value
    named = {name: inner for name, inner in value.items() if isinstance(name, str) and not name.startswith("optim")}
    if tensors := {name: inner for name, inner in named.items() if isinstance(inner, Tensor)}:
        yield place, tensors
    for name, inner in named.items():
        yield from _dicts(inner, f"{place}.{name}" if place else name, seen)


def _choose(places: list[_Place], wanted: Collection[str], path: Path, key: str | None) -> tuple[_Place, list[str]]:
    """Where the wanted network is; and the other dicts that have one like it."""
    asked = [place for place in places if key is None or f".{key.strip('.')}." in f".{place.label}."]
    if not asked:
        labels = ", ".join(f"'{place.label}'" for place in places if place.label) or "none"
        raise UserError(
            f"--weights-key {key}: {path} has no weights under it; leave it out, or name a dict in the file or "
            f"what is before the names of one of its networks (there are: {labels})"
        )
    best = [place for place in asked if place.score == max(place.score for place in asked)]
    plain = [place for place in best if "ema" not in re.split(r"[._]", place.label)] or best  # no moving averages
    first, *rest = sorted(plain, key=lambda place: len(place.label))
    if any(not _same(first, other, wanted) for other in rest):
        labels = ", ".join(f"'{place.label}'" for place in plain)
        raise UserError(f"{path} holds several networks: {labels}; choose one, e.g. --weights-key {plain[0].label}")
    return first, [place.nest for place in places if place.score == first.score and place.nest != first.nest]


def _places(nest: str, tensors: Weights, wanted: Collection[str]) -> list[_Place]:
    """Where in a dict most of the names ``wanted`` are; where they are nowhere, its one prefix."""
    counts: Counter[str] = Counter()
    for name in tensors:
        parts = name.split(".")
        for i in range(len(parts)):
            if ".".join(parts[i:]) in wanted:
                counts["".join(f"{part}." for part in parts[:i])] += 1
    found = [_Place(nest, prefix, tensors, (count, 0)) for prefix, count in counts.items() if count > len(wanted) / 2]
    return found or [_Place(nest, _shared(tensors), tensors, (0, len(tensors)))]


def _same(one: _Place, other: _Place, wanted: Collection[str]) -> bool:
    mine, theirs = one.network, other.network
    pairs = ((mine.get(name), theirs.get(name)) for name in (wanted if one.score[0] else mine))
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


def _taken(place: _Place, name: str) -> list[float]:
    return place.tensors.pop(name).flatten().double().tolist()


def some(names: list[str]) -> str:
    """The first names, for a message."""
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
