"""Under which key of a file a state dict is.

| from | the state dict is under |
|---|---|
| torchvision, hpcfast | nothing |
| timm | nothing or ``state_dict``; the averaged weights under ``state_dict_ema`` |
| MadryLab's robustness | ``model`` |
| RobustBench, Lightning | ``state_dict`` |
| others | one of ``NESTS``; averaged weights under one of ``AVERAGES`` |
"""

from pathlib import Path
from typing import Any

from torch import Tensor

from hpcfast.errors import UserError

Weights = dict[str, Tensor]

NESTS = ("state_dict", "model", "model_state_dict", "net", "module", "weights", "params")
AVERAGES = ("state_dict_ema", "model_ema", "ema_state_dict", "ema", "ema_model", "model_ema_state_dict", "params_ema")
"""Exponential moving averages: taken where the file has nothing else, or where they are asked for."""


def state_dict(content: Any, path: Path, key: str | None) -> tuple[Weights, str | None, list[str]]:
    """The dict of tensors in ``content``, or in one of its values, or in one of theirs.

    Args:
        key: of the dict that is wanted, where the file has several.

    Returns:
        Tensors by name; ``key`` if there is no dict under it, which may then be before the tensors' names; and notes.

    Raises:
        UserError: there is no state dict, or several and nothing says which.
    """
    inner, place, others = content, [], []
    while isinstance(inner, dict):
        nests = [name for name, value in inner.items() if isinstance(name, str) and _holds_tensors(value)]
        chosen = _choose(nests, key, bool(_tensors(inner)), path)
        if chosen is None:
            break
        if chosen == key:
            key = None
        inner = inner[chosen]
        place.append(chosen)
        others += [name for name in nests if name != chosen and not name.startswith("optim")]
    tensors = _tensors(inner) if isinstance(inner, dict) else {}
    if not tensors:
        keys = ", ".join(f"'{key}'" for key in list(inner)[:5]) if isinstance(inner, dict) else type(inner).__name__
        raise UserError(
            f"{path} holds no state dict (found: {keys or 'nothing'}); "
            f"save one, as it is or under one of {', '.join(NESTS)}"
        )
    return tensors, key, _notes(place, others, len(inner) - len(tensors))


def _choose(nests: list[str], key: str | None, bare: bool, path: Path) -> str | None:
    """Which of ``nests`` to look into; None if the tensors are here."""
    known = [name for name in (key, *NESTS, *AVERAGES) if name in nests]
    if known or bare or not nests:
        return known[0] if known else None
    nests = [name for name in nests if not name.startswith("optim")] or nests
    if len(nests) > 1:
        names = ", ".join(f"'{name}'" for name in nests[:8])
        raise UserError(f"{path} holds several state dicts: {names}; choose one, e.g. --weights-key {nests[0]}")
    return nests[0]


def _notes(place: list[str], others: list[str], odd: int) -> list[str]:
    notes = [f"weights found under '{'.'.join(place)}'"] if place else []
    if others:
        names = ", ".join(f"'{name}'" for name in others)
        notes.append(f"the file also has weights under {names}; --weights-key {others[0]} takes those")
    if odd:
        notes.append(f"{odd} values beside the tensors are left out")
    return notes


def _tensors(values: dict[Any, Any]) -> Weights:
    return {name: value for name, value in values.items() if isinstance(name, str) and isinstance(value, Tensor)}


def _holds_tensors(value: Any) -> bool:
    """Whether ``value`` is a state dict, or a dict with one in it."""
    if not isinstance(value, dict):
        return False
    return bool(_tensors(value)) or any(_holds_tensors(inner) for name, inner in value.items() if isinstance(name, str))
