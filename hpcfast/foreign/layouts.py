"""Who saves weights how: under which key, behind which prefix, with the normalisation called what.

| from | the state dict is under | names begin with | normalisation |
|---|---|---|---|
| torchvision, timm | nothing, ``state_dict`` or ``model`` | nothing or ``module.`` | none |
| MadryLab's robustness | ``model`` | ``module.model.``; ``module.attacker.`` repeats them | ``new_mean``, ``new_std`` |
| RobustBench | ``state_dict`` or nothing | nothing or ``model.`` | ``mu``, ``sigma`` or ``normalize.mean``, … |
| hpcfast | nothing | ``net.`` | ``normalise.mean``, ``normalise.std`` |
"""

from pathlib import Path
from typing import Any

from torch import Tensor

from hpcfast.errors import UserError

Weights = dict[str, Tensor]
Normalisation = tuple[Tensor, Tensor]

NESTS = ("state_dict", "model", "model_state_dict", "net")
PREFIXES = ("module.", "model.", "net.")
NORMALISATIONS = (
    ("normalise.mean", "normalise.std"),
    ("normalizer.new_mean", "normalizer.new_std"),
    ("normalize.mean", "normalize.std"),
    ("mu", "sigma"),
    ("mean", "std"),
)
COPIES = "attacker."


def unwrap(content: Any, path: Path) -> tuple[Weights, Normalisation | None, list[str]]:
    """The network's own names and tensors, the normalisation if the file has one, and notes on what was taken away.

    Raises:
        UserError: there is no state dict in ``content``.
    """
    weights, notes = _state_dict(content, path)
    normalisation, stripped = None, ""
    while True:
        for mean, std in NORMALISATIONS:
            if mean in weights and std in weights:
                normalisation = (weights.pop(mean), weights.pop(std))
        if copies := [name for name in weights if name.startswith(COPIES)]:
            weights = {name: tensor for name, tensor in weights.items() if name not in copies}
            notes.append(f"{len(copies)} tensors of '{stripped}{COPIES}' are copies and left out")
        prefix = next((p for p in PREFIXES if weights and all(name.startswith(p) for name in weights)), None)
        if prefix is None:
            break
        weights = {name.removeprefix(prefix): tensor for name, tensor in weights.items()}
        stripped += prefix
    if stripped:
        notes.append(f"names are read without their '{stripped}'")
    return weights, normalisation, notes


def _state_dict(content: Any, path: Path) -> tuple[Weights, list[str]]:
    """The dict of tensors in ``content``, or in one of its values."""
    notes = []
    inner, depth = content, []
    while isinstance(inner, dict) and (key := next((k for k in NESTS if isinstance(inner.get(k), dict)), None)):
        inner = inner[key]
        depth.append(key)
    tensors = (
        {name: value for name, value in inner.items() if isinstance(value, Tensor)} if isinstance(inner, dict) else {}
    )
    if not tensors:
        keys = ", ".join(f"'{key}'" for key in list(inner)[:5]) if isinstance(inner, dict) else type(inner).__name__
        raise UserError(
            f"{path} holds no state dict (found: {keys or 'nothing'}); "
            f"save one, as it is or under one of {', '.join(NESTS)}"
        )
    if depth:
        notes.append(f"weights found under '{'.'.join(depth)}'")
    if odd := len(inner) - len(tensors):
        notes.append(f"{odd} values beside the tensors are left out")
    return tensors, notes
