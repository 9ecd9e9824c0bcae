"""What common corruptions do to pixels."""

import colorsys

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

from hpcfast.datasets.corruptions import CORRUPTIONS, SEVERITIES, corrupted
from tests.unit.corrupting import values


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def photo(size: int, mode: str = "RGB") -> Image.Image:
    """A temple."""
    image = Image.fromarray(load_sample_image("china.jpg")).crop((100, 0, 520, 420))
    return image.resize((size + 4, size)).convert(mode)


def grey(size: int = 300) -> Image.Image:
    return Image.new("RGB", (size, size), (128, 128, 128))


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("size", [28, 100])
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_severer_is_farther_from_the_image(name: str, size: int, mode: str) -> None:
    image = photo(size, mode)
    done = [corrupted(image, name, severity, rng()) for severity in SEVERITIES]
    assert {(each.size, each.mode) for each in done} == {(image.size, mode)}
    distances = [np.abs(values(each) - values(image)).mean() for each in done]
    assert 0 < distances[0] < distances[2] < distances[4]


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_same_random_numbers_same_image(name: str) -> None:
    first, again, other = (corrupted(photo(28), name, 3, rng(seed)) for seed in (0, 0, 1))
    assert first.tobytes() == again.tobytes()
    assert (first.tobytes() != other.tobytes()) == name.endswith("noise")


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("side", [1, 2, 64, 65])
def test_any_size_will_do(name: str, side: int) -> None:
    assert corrupted(Image.new("L", (side, side + 1), 99), name, 5, rng()).size == (side, side + 1)


def test_noises_are_as_strong_as_published() -> None:
    x = 128 / 255
    gaussian, shot, impulse = (
        values(corrupted(grey(), name, 1, rng())) for name in ("gaussian_noise", "shot_noise", "impulse_noise")
    )
    assert (gaussian.mean(), gaussian.std()) == pytest.approx((x, 0.08), rel=0.01)
    assert (shot.mean(), shot.std()) == pytest.approx((x, (x / 60) ** 0.5), rel=0.01)
    assert (impulse == 0).mean() == pytest.approx(0.015, rel=0.05)
    assert (impulse == 1).mean() == pytest.approx(0.015, rel=0.05)


def test_a_blur_is_a_gaussian() -> None:
    pixels = np.zeros((101, 101), np.uint8)
    pixels[45:56, 45:56] = 255  # eleven wide: variance 10
    rows = values(corrupted(Image.fromarray(pixels), "gaussian_blur", 3, rng())).sum(0)
    assert np.average((np.arange(101) - 50) ** 2, weights=rows) == pytest.approx(10 + 3**2, rel=0.02)


def test_brightness_is_that_of_hsv() -> None:
    before, after = photo(28), corrupted(photo(28), "brightness", 5, rng())
    for old, new in zip(values(before).reshape(-1, 3), values(after).reshape(-1, 3), strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*old)
        assert new == pytest.approx(colorsys.hsv_to_rgb(hue, saturation, min(1, value + 0.3)), abs=0.51 / 255)
    assert corrupted(Image.new("RGB", (2, 2)), "brightness", 3, rng()).getpixel((0, 0)) == (38, 38, 38)


def test_contrast_keeps_the_mean() -> None:
    before, after = values(photo(28)), values(corrupted(photo(28), "contrast", 2, rng()))
    assert after.mean((0, 1)) == pytest.approx(before.mean((0, 1)), abs=1 / 255)
    assert after.std((0, 1)) == pytest.approx(before.std((0, 1)) / 2, rel=0.02)
