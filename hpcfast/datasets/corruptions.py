"""Common corruptions of images: noise, blur, weak contrast … (Hendrycks and Dietterich, ICLR 2019, ImageNet-C).

Eight of their nineteen, those that are a few lines each, with the constants of their code. Written anew: theirs and
the packages made of it refuse images below 32 pixels or fail with NumPy 2, and bring OpenCV and scikit-image.
"""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from hpcfast.data.images import opened

SEVERITIES = (1, 2, 3, 4, 5)
SMALL = 64
"""Images whose shorter side has at most so many pixels are corrupted as CIFAR-10-C's (32 pixels) are, larger ones as
ImageNet-C's (224 pixels): a blur is so many pixels wide."""

Pixels = np.ndarray
"""Shape (height, width, channels), float64, in [0,1]."""
Change = Callable[[Pixels, float, np.random.Generator], Pixels]
"""What is done to an image, how strongly, with what random numbers; what leaves [0,1] is clipped."""


def corrupted(image: Image.Image, name: str, severity: int, rng: np.random.Generator) -> Image.Image:
    """``image`` (mode L or RGB) with one of :data:`CORRUPTIONS` of severity 1 to 5; of the same size and mode."""
    change, large, small = CORRUPTIONS[name]
    strength = (small if min(image.size) <= SMALL else large)[severity - 1]
    return _image(change(_pixels(image), strength, rng))


def _gaussian_noise(x: Pixels, deviation: float, rng: np.random.Generator) -> Pixels:
    return x + rng.normal(scale=deviation, size=x.shape)


def _shot_noise(x: Pixels, photons: float, rng: np.random.Generator) -> Pixels:
    """Photons are counted, so many in a white pixel."""
    return rng.poisson(x * photons) / photons


def _impulse_noise(x: Pixels, share: float, rng: np.random.Generator) -> Pixels:
    """So many of the values become 0 or 1."""
    return np.where(rng.random(x.shape) < share, rng.integers(0, 2, x.shape), x)


def _gaussian_blur(x: Pixels, deviation: float, rng: np.random.Generator) -> Pixels:
    return gaussian_filter(x, (deviation, deviation, 0), mode="nearest")


def _brightness(x: Pixels, more: float, rng: np.random.Generator) -> Pixels:
    """More of HSV's value, the largest channel; hue and saturation stay, for which all channels are scaled alike."""
    value = x.max(2, keepdims=True)
    wanted = np.minimum(value + more, 1)
    return np.where(value > 0, x * wanted / np.where(value > 0, value, 1), wanted)


def _contrast(x: Pixels, factor: float, rng: np.random.Generator) -> Pixels:
    mean = x.mean((0, 1))
    return mean + factor * (x - mean)


def _pixelate(x: Pixels, factor: float, rng: np.random.Generator) -> Pixels:
    image = _image(x)
    fewer = [max(1, int(side * factor)) for side in image.size]
    return _pixels(image.resize((fewer[0], fewer[1]), Image.Resampling.BOX).resize(image.size, Image.Resampling.BOX))


def _jpeg_compression(x: Pixels, quality: float, rng: np.random.Generator) -> Pixels:
    file = io.BytesIO()
    _image(x).save(file, "JPEG", quality=int(quality))
    return _pixels(opened(file.getvalue()))


def _pixels(image: Image.Image) -> Pixels:
    return np.atleast_3d(np.asarray(image)) / 255


def _image(x: Pixels) -> Image.Image:
    grey = x.shape[2] == 1
    return Image.fromarray(np.rint(255 * x.clip(0, 1)).astype(np.uint8)[..., 0 if grey else slice(None)])


CORRUPTIONS: dict[str, tuple[Change, tuple[float, ...], tuple[float, ...]]] = {
    "brightness": (_brightness, (0.1, 0.2, 0.3, 0.4, 0.5), (0.05, 0.1, 0.15, 0.2, 0.3)),
    "contrast": (_contrast, (0.4, 0.3, 0.2, 0.1, 0.05), (0.75, 0.5, 0.4, 0.3, 0.15)),
    "gaussian_blur": (_gaussian_blur, (1, 2, 3, 4, 6), (0.4, 0.6, 0.7, 0.8, 1)),
    "gaussian_noise": (_gaussian_noise, (0.08, 0.12, 0.18, 0.26, 0.38), (0.04, 0.06, 0.08, 0.09, 0.1)),
    "impulse_noise": (_impulse_noise, (0.03, 0.06, 0.09, 0.17, 0.27), (0.01, 0.02, 0.03, 0.05, 0.07)),
    "jpeg_compression": (_jpeg_compression, (25, 18, 15, 10, 7), (80, 65, 58, 50, 40)),
    "pixelate": (_pixelate, (0.6, 0.5, 0.4, 0.3, 0.25), (0.95, 0.9, 0.85, 0.75, 0.65)),
    "shot_noise": (_shot_noise, (60, 25, 12, 5, 3), (500, 250, 100, 75, 50)),
}
"""By ImageNet-C's names; strengths at severities 1 to 5: ImageNet-C's for large images, CIFAR-10-C's for small ones."""
