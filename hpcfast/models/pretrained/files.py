"""Files of weights, read without running anything that is in them."""

import pickle
import re
import struct
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from hpcfast.errors import UserError

_GLOBAL = re.compile(r"GLOBAL (\S+)")
RESAVE = "torch.save({name: tensor.cpu() for name, tensor in model.state_dict().items()}, 'weights.pt')"


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
        return _read_safetensors(path), False
    if head[:2] in (b"PK", b"\x80\x02"):  # a zip archive, or the pickle that torch wrote before version 1.6
        return _read_torch(path), True
    raise UserError(
        f"{path} is neither a safetensors file nor one of torch.save (it begins with {head!r}). "
        f"If it was cut short, copy it again; of a program (ONNX) use the weights it was made from"
    )


def _read_safetensors(path: Path) -> Any:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} is damaged or cut short ({error}); copy it again") from None


def _read_torch(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what it warns of is refused below
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if found := _GLOBAL.search(str(error)):
            raise UserError(
                f"{path} holds code ({found[1]}), which loading it would run; only tensors and plain values are read. "
                f"Save the weights anew with the tool that made the file: {RESAVE}"
            ) from None
        raise _damaged(path, str(error).splitlines()[0]) from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, struct.error) as error:
        if "TorchScript" in str(error):
            raise UserError(f"{path} is a TorchScript program; save the weights it was made from: {RESAVE}") from None
        raise _damaged(path, f"{str(error) or type(error).__name__}".splitlines()[0]) from None


def _damaged(path: Path, why: str) -> UserError:
    return UserError(f"{path} is damaged, cut short or not written by torch.save ({why}); copy it again")
