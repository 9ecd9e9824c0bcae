"""Settings of the DALI pipelines: colour jitter, and where images are decoded."""

from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given
from PIL import Image

from hpcfast.component import Invalid, validate
from hpcfast.data import DataSettings, augment, dali
from hpcfast.data.reader import read_splits
from hpcfast.errors import UserError
from tests.conftest import write_images
from tests.unit.loading import AUGMENTS, CPU, by_id, read, settings


@pytest.fixture(scope="module")
def colour(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of six 16x16 RGB PNG images."""
    return write_images(tmp_path_factory.mktemp("colour"), {"train": 6, "val": 2}, classes=2, size=16, mode="RGB")


def with_(data: DataSettings, **changes: object) -> DataSettings:
    return validate(DataSettings, {**data.model_dump(), **changes})


@given(st.integers(0, 2**63 - 1), st.floats(0.01, 3))
def test_factors_are_in_torchvisions_range(key: int, strength: float) -> None:
    for factors in augment.jitters(augment.uniform(key, np.arange(50)), strength):
        assert factors.dtype == np.float32
        assert max(0, 1 - strength) - 1e-5 <= factors.min() <= factors.max() <= 1 + strength + 1e-5
    assert np.ptp(factors) > strength / 4


@pytest.mark.parametrize("name", AUGMENTS)
def test_jitter_changes_colours_alike_on_any_number_of_ranks_and_not_in_evaluation(colour: Path, name: str) -> None:
    plain = settings(colour, 16, augment=name)
    jittered = with_(plain, colour_jitter=0.5)
    alone = by_id(read(jittered, key=3))
    assert all(not torch.equal(x, alone[i]) for i, x in by_id(read(plain, key=3)).items())
    parts = [read(jittered, 3, (rank, 2), batch=3) for rank in range(2)]
    assert all(torch.equal(x, alone[i]) for i, x in by_id([one for part in parts for one in part]).items())
    assert all(0 <= x.min() <= x.max() <= 1 for x in alone.values())
    evaluated = by_id(read(jittered))
    assert all(torch.equal(x, evaluated[i]) for i, x in by_id(read(plain)).items())


def test_brightness_and_saturation_change_as_drawn(tmp_path: Path) -> None:
    """Of an image whose contrast has nothing to do: all pixels lie at the level that contrast leaves as it is."""
    for split in ("train", "val"):
        for label in "ab":
            (tmp_path / split / label).mkdir(parents=True)
            Image.new("RGB", (8, 8), (100, 100, 100)).save(tmp_path / split / label / "0.png")
    x = by_id(read(with_(settings(tmp_path, 8), colour_jitter=0.2), key=9))
    brightness, contrast, _ = augment.jitters(augment.uniform(9, np.arange(2)), 0.2)
    for i in range(2):
        expected = brightness[i] * (128 + contrast[i] * (100 - 128))
        assert x[i].mean().item() * 255 == pytest.approx(float(expected), abs=1.5)


def graph(data: DataSettings, device: torch.device, root: Path) -> bytes:
    split = read_splits(root)[0]
    pipe = dali.build(iter([[split.encoded(0)]]), np.arange(1), data, device, 1, 1, 1)
    return bytes(pipe.serialize())


def test_decoding_on_the_cpu_uses_no_gpu_though_there_is_one(colour: Path) -> None:
    data, gpu = settings(colour, 16, augment="resized_crop_flip"), torch.device("cuda", 0)
    assert b"mixed" in graph(data, gpu, colour)
    assert b"device_memory_padding" in graph(data, gpu, colour)
    for mode, device in (("cpu", gpu), ("cpu", CPU), ("auto", CPU)):
        on_cpu = graph(with_(data, decode=mode), device, colour)
        assert not any(word in on_cpu for word in (b"mixed", b"gpu", b"device_memory_padding"))


def test_without_jitter_the_graph_has_none(colour: Path) -> None:
    data = settings(colour, 16, augment="pad_crop_flip")
    assert b"ColorTwist" not in graph(data, CPU, colour)
    assert b"ColorTwist" in graph(with_(data, colour_jitter=0.1), CPU, colour)


@pytest.mark.parametrize(
    ("key", "value"), [("colour_jitter", -0.1), ("decode", "gpu"), ("prefetch", 0), ("colour_jitter", "nan")]
)
def test_wrong_settings_are_refused(colour: Path, key: str, value: object) -> None:
    with pytest.raises(Invalid, match=key):
        with_(settings(colour, 16), **{key: value})


def test_grey_images_have_no_colours_to_change(tiny: object) -> None:
    with pytest.raises(UserError, match=r"data\.colour_jitter: grey images"):
        tiny("data.colour_jitter=0.1")  # type: ignore[operator]
