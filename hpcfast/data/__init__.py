"""Images from disk to the device: settings, and what a batch is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt

from hpcfast.component import Settings

if TYPE_CHECKING:  # preparing a data set needs no torch, which takes seconds to import
    from torch import Tensor


class Batch(NamedTuple):
    """Images of one rank and step, on its device."""

    x: Tensor
    """Shape (n, channels, size, size), float32, pixels in [0,1]."""
    y: Tensor
    """Classes, shape (n,), int64."""
    ids: Tensor
    """Each image's place in its split, shape (n,), int64."""


class DataSettings(Settings):
    """Where the images are and how they are prepared."""

    path: Path
    """A folder with ``train/`` and ``val/``, a pack, or ``synthetic:IMAGESxCLASSES``."""
    stage: Path | None = None
    """A folder on every node's own disk: training first copies ``path``, a pack, there. ``$NAME`` in it is a variable
    of the rank's environment, ``{node}`` the node's name."""
    images: PositiveInt | None = None
    """Train on so many images, spread evenly over the classes. ``null``: on all but those held out."""
    held_out: NonNegativeInt | None = None
    """Training images that are never trained on: the monitor and the guard measure on them. ``null``: 1,000, at most a
    tenth of all."""
    skips: Path | None = None
    """A list of bad images to leave out. ``null``: ``skips.txt`` in ``path``, if it exists."""
    channels: Literal[1, 3] = 3
    """3: colour. 1: grey."""
    size: PositiveInt
    """Image side in pixels, for evaluation, and for training without ``phases``."""
    batch_size: PositiveInt
    """Images in a batch of one rank."""
    augment: Literal["none", "pad_crop_flip", "resized_crop_flip"] = "none"
    """``pad_crop_flip`` pads by an eighth, crops at random and mirrors (CIFAR-10). ``resized_crop_flip`` crops a random
    area and aspect ratio and mirrors (ImageNet)."""
    flip: bool = True
    """Augmentation mirrors half of the images. ``false`` where classes depend on the side, as digits and text do."""
    colour_jitter: NonNegativeFloat = 0.0
    """How much brightness, contrast and saturation may change; 0.4: to 60 % to 140 %."""
    decode: Literal["auto", "cpu"] = "auto"
    """``auto`` decodes on a GPU if there is one."""
    threads: PositiveInt | None = None
    """Loader threads of one rank. ``null``: the rank's share of the machine's cores."""
    prefetch: PositiveInt = 2
    """Batches that DALI prepares ahead."""
    resident: Literal["auto", True, False] = "auto"
    """``true``: decode each image once and keep its bytes on the rank's device. ``auto``: do so if a split takes
    at most 1 GiB. Not with ``resized_crop_flip``."""

    @property
    def can_be_resident(self) -> bool:
        """Whether all that a step sees of an image is cut from the same pixels."""
        return self.augment != "resized_crop_flip"
