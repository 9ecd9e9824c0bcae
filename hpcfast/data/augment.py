"""What augmentation draws at random: a function of (key, image) alone.

So an image looks the same on any rank, at any place of any batch, and where training resumed after a stop.
Numbers are computed as they are needed, from a counter: there is no generator whose state would have to be kept.
"""

from collections.abc import Callable

import numpy as np

MIRROR, AREA, ASPECT, PLACE, JITTER, COUNT = 0, 1, 2, slice(3, 5), slice(5, 8), 8
"""What each of an image's numbers is for, and how many there are."""

CROP_AREA = 0.08
"""Least part of an image's area that a random crop keeps (Szegedy et al. 2015, arXiv:1409.4842)."""

CROP_ASPECT = 4 / 3
"""Greatest ratio of a random crop's sides, from the same paper."""

Numbers = Callable[[int], np.ndarray]
"""From a batch's place to the ``uniform`` numbers of its images."""


def uniform(key: int, ids: np.ndarray, flip: bool = True) -> np.ndarray:
    """Numbers uniform in [0, 1), shape (n, 8), float32: the first eight of SplitMix64 for each of ``ids``, shape (n,).

    Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators". ``key`` has 63 bits, for instance
    ``seed_of(seed, epoch)``; another one gives unrelated numbers. Without ``flip`` the first is 1: nothing is mirrored.
    """
    states = _mix(_walk(np.uint64(key), ids))
    # 24 bits are what float32 holds: with more of them, numbers would be rounded up to 1.
    numbers = (_mix(_walk(states[:, None], np.arange(COUNT))) >> 40).astype(np.float32) * np.float32(2**-24)
    if not flip:
        numbers[:, MIRROR] = 1
    return numbers


def by_batch(key: int, ids: np.ndarray, batch_size: int, flip: bool = True) -> Numbers:
    """The ``uniform`` numbers of the i-th batch of ``ids``; StopIteration beyond the last."""

    def numbers(i: int) -> np.ndarray:
        batch = ids[i * batch_size : (i + 1) * batch_size]
        if not len(batch):
            raise StopIteration  # DALI's word for the end
        return uniform(key, batch, flip)

    return numbers


def shifts(numbers: np.ndarray, reach: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw from ``uniform`` numbers whether to mirror, (n,), and shifts of up to ``reach`` pixels, (n, 2); int32."""
    return _mirror(numbers), np.floor(numbers[:, PLACE] * (2 * reach + 1)).astype(np.int32) - reach


def crops(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Draw crops from ``uniform`` numbers, as far as that doesn't need the sizes of the images.

    Returns:
        Whether to mirror, shape (n,), int32, 0 or 1; height and width of a window of area 1 whose aspect ratio is
        log-uniform, shape (n, 2); where to take the area from its range, shape (n,); where to put the window
        (down, right), shape (n, 2); these in [0, 1); float32.
    """
    form = np.float32(CROP_ASPECT) ** ((numbers[:, ASPECT, None] - 0.5) * np.array([-1, 1], np.float32))
    # Copies, since DALI takes no strided views.
    return _mirror(numbers), form, numbers[:, AREA].copy(), numbers[:, PLACE].copy()


def window(extent: np.ndarray, form: np.ndarray, area: np.ndarray, place: np.ndarray) -> tuple[int, int, int, int]:
    """Top, left, height and width of a random window, in whole pixels, inside an image of ``extent``, shape (2,).

    Its area is uniform from ``CROP_AREA`` of the image to the largest that fits at this aspect ratio; ``form``,
    ``area`` and ``place`` are an image's of :func:`crops`. In single precision, as DALI works it out.
    """
    sides = extent.astype(np.float32) / form
    largest = sides.min()
    smallest = np.minimum(sides.max() * np.float32(CROP_AREA), largest)
    chosen = np.sqrt((smallest + area * (largest - smallest)) * largest)
    shape = np.maximum(_whole(form * chosen), 1)
    top, left = _whole(place * (extent - shape).astype(np.float32)).tolist()
    return top, left, *shape.tolist()


def _whole(numbers: np.ndarray) -> np.ndarray:
    """``numbers``, none negative, rounded as DALI does: halves up, not to the even one."""
    return np.floor(numbers.astype(np.float64) + 0.5).astype(np.int32)


def jitters(numbers: np.ndarray, strength: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw, from ``uniform`` numbers, factors for brightness, contrast and saturation; each of shape (n,), float32.

    They are uniform from 1 - strength to 1 + strength, but not below 0, as torchvision's are.
    """
    least = np.float32(max(0.0, 1 - strength))
    factors = least + numbers[:, JITTER] * (np.float32(1 + strength) - least)
    brightness, contrast, saturation = factors.T.copy()  # not strided, as DALI wants it
    return brightness, contrast, saturation


def _mirror(numbers: np.ndarray) -> np.ndarray:
    return (numbers[:, MIRROR] < 0.5).astype(np.int32)


def _walk(state: np.ndarray | np.uint64, steps: np.ndarray) -> np.ndarray:
    return state + (steps.astype(np.uint64) + 1) * np.uint64(0x9E3779B97F4A7C15)


def _mix(z: np.ndarray) -> np.ndarray:
    z = (z ^ (z >> 30)) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> 27)) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> 31)
