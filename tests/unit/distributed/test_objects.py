"""What travels between ranks arrives as it was, and nothing that could run code does."""

import math
import pickle
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hpcfast.distributed.objects import pack, unpack

keys = st.integers() | st.text() | st.booleans() | st.none()
# lone surrogates too: they stand for the bytes of file names that are not UTF-8
simple = keys | st.floats(allow_nan=False) | st.binary() | st.text(st.characters(categories=["Cs", "L"]))
values = st.recursive(
    simple, lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(keys, inner), max_leaves=20
)


def framed(text: str) -> bytes:
    return len(text).to_bytes(8, "big") + text.encode()


@given(values)
def test_plain_values_arrive_as_they_were(value: Any) -> None:
    arrived = unpack(pack(value))
    assert repr(arrived) == repr(value)  # 1 and True are equal, and not the same


def test_numbers_that_json_does_not_know() -> None:
    nan, most = unpack(pack((math.nan, math.inf)))
    assert math.isnan(nan)
    assert most == math.inf


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.uint8, torch.bool])
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3, 4, 5)])
def test_tensors_keep_type_shape_and_every_bit(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    sent = (torch.randn(shape) * 100).to(dtype)
    first, (second, path) = unpack(pack([sent, ({"x": sent + sent}, Path("a/b"))]))
    assert first.dtype == second["x"].dtype == dtype
    assert torch.equal(first, sent)
    assert torch.equal(second["x"], sent + sent)
    assert path == Path("a/b")


def test_a_tensor_laid_out_channels_last_arrives() -> None:
    sent = torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    assert torch.equal(unpack(pack(sent)), sent)


class Pair(NamedTuple):
    """Would arrive without its names."""

    a: int
    b: Any


def test_a_number_of_numpys_becomes_one_of_pythons() -> None:
    assert repr(unpack(pack([np.float64(0.5), np.int64(3), np.bool_(True)]))) == "[0.5, 3, True]"


@pytest.mark.parametrize(
    "value", [object(), {1}, print, np.zeros(2), ValueError("x"), Pair(1, 2)], ids=lambda each: type(each).__name__
)
def test_nothing_else_travels(value: Any) -> None:
    with pytest.raises(TypeError, match="does not travel between ranks"):
        pack([value])


@pytest.mark.parametrize(
    "data", [pickle.dumps(print), b"", bytes(8), pack(1)[:-1] + b"}", b"\0" * 7 + b"\x0c" + b'{"kind": [1]}']
)
def test_what_is_no_value_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the words are json's
        unpack(data)
