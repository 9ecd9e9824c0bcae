"""Checkpoints and exported weights on disk: written atomically, read without executing code."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from hpcfast.errors import UserError

KEEP = 2
LAST = "LAST"


def save(folder: Path, step: int, state: dict[str, Any]) -> None:
    """Write ``state`` as ``step-00001234.pt`` in ``folder``, name it in ``LAST`` and drop all but the newest two."""
    folder.mkdir(exist_ok=True)
    path = folder / f"step-{step:08d}.pt"
    write_atomically(path, lambda part: torch.save(state, part))
    save_text(folder / LAST, path.name)
    for old in sorted(folder.glob("step-*.pt"))[:-KEEP]:
        old.unlink()


def load_last(folder: Path) -> dict[str, Any] | None:
    """Return the state that ``LAST`` names, on the CPU, or None where nothing was saved yet.

    Raises:
        UserError: the file is missing or damaged.
    """
    if not (folder / LAST).is_file():
        return None
    path = folder / (folder / LAST).read_text().strip()
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - what damaged bytes make torch raise is anybody's guess
        others = [p.name for p in sorted(folder.glob("step-*.pt")) if p != path]
        cure = f"write an older one's name ({', '.join(others)}) into {folder / LAST}, or " if others else ""
        kind = type(error).__name__
        raise UserError(
            f"checkpoint {path} cannot be read ({kind}: missing, damaged, or more than weights); "
            f"{cure}start over with --overwrite"
        ) from None


def save_weights(path: Path, weights: dict[str, Tensor]) -> None:
    """Write ``weights`` as safetensors."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    write_atomically(path, lambda part: save_file(contiguous, part))


def save_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    write_atomically(path, lambda part: part.write_text(text))


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        UserError: it is missing or is none.
    """
    try:
        return load_file(path)
    except FileNotFoundError:
        raise UserError(f"no weights {path}: finish the run first with 'hpcfast train'") from None
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} is no readable safetensors file ({error}); train the run again") from None


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` make a file beside ``path``, then put it in place: at ``path`` there is never half a file."""
    part = path.with_name(path.name + ".part")
    write(part)
    with part.open("rb+") as file:
        os.fsync(file.fileno())
    part.replace(path)
