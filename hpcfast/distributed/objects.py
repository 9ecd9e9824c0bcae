"""Values on their way between ranks: JSON, and bytes and tensors behind it. Never a pickle, which can run code.

JSON knows no tuples, no keys but strings, no bytes and no tensors: each of these is an object ``{kind: content}``.
"""

import io
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in vars(torch).values() if isinstance(dtype, torch.dtype)}


def pack(value: Any) -> bytes:
    """``value`` as bytes.

    Args:
        value: numbers, strings, bytes, paths, tensors, and lists, tuples and dicts of them. A number of numpy's
            becomes one of Python's. A named tuple would lose its names: give ``tuple(value)``, and make it one again.

    Raises:
        TypeError: it holds something else.
    """
    blobs: list[bytes] = []
    text = json.dumps(_plain(value, blobs)).encode()
    return b"".join([len(text).to_bytes(8, "big"), text, *blobs])


def packed(value: Any) -> Tensor:
    """The same as a tensor of bytes, shape (n,), uint8."""
    return torch.frombuffer(bytearray(pack(value)), dtype=torch.uint8)


def unpack(data: bytes | memoryview) -> Any:
    """The value that :func:`pack` was given; tensors are on the CPU.

    Raises:
        ValueError: ``data`` is no such thing.
    """
    stream = io.BytesIO(data)
    size = int.from_bytes(stream.read(8), "big")
    return _value(json.loads(stream.read(min(size, len(data)))), stream)


def _plain(value: Any, blobs: list[bytes]) -> Any:
    def each(values: Iterable[Any]) -> list[Any]:
        return [_plain(one, blobs) for one in values]

    match value:
        case None | bool() | int() | float() | str():
            return value
        case list():
            return each(value)
        case tuple() if not hasattr(value, "_fields"):
            return {"tuple": each(value)}
        case dict():
            return {"dict": [each(pair) for pair in value.items()]}
        case bytes():
            blobs.append(value)
            return {"bytes": len(value)}
        case Path():
            return {"path": str(value)}
        case np.generic():
            return value.item()
        case Tensor():
            blobs.append(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
            return {"tensor": [str(value.dtype).removeprefix("torch."), list(value.shape)]}
    raise TypeError(f"{type(value).__name__} does not travel between ranks: {value!r:.100}")


def _value(plain: Any, blobs: io.BytesIO) -> Any:
    if isinstance(plain, list):
        return [_value(each, blobs) for each in plain]
    if not isinstance(plain, dict):
        return plain
    ((kind, content),) = plain.items()
    match kind:
        case "tuple":
            return tuple(_value(each, blobs) for each in content)
        case "dict":
            return {_value(key, blobs): _value(each, blobs) for key, each in content}
        case "bytes":
            return blobs.read(content)
        case "path":
            return Path(content)
        case "tensor":
            name, shape = content
            dtype = DTYPES[name]
            tensor = torch.empty(math.prod(shape), dtype=dtype)
            tensor.view(torch.uint8).numpy()[:] = np.frombuffer(blobs.read(tensor.nbytes), np.uint8)
            return tensor.reshape(shape)
    raise ValueError(f"{kind} is nothing that travels between ranks")
