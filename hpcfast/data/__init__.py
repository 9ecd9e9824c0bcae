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
    """Where the images are and how they are prepared.

    ``augment``: "none"; "pad_crop_flip" pads by an eighth, crops at random and mirrors (CIFAR-10);
    "resized_crop_flip" crops a random area and aspect ratio and mirrors (ImageNet). ``batch_size`` is a rank's.
    ``threads`` are DALI's, a rank; by default the rank's share of the machine's cores. ``images``: train on so many,
    evenly spread over the classes; by default on all but those held out. ``held_out``: training images that are never
    trained on, for the monitor and the guard; by default 1,000, at most a tenth of all. ``skips``: list of bad images
    to leave out; by default ``skips.txt`` in ``path``, if it exists (see docs/data.md). ``colour_jitter``: brightness,
    contrast and saturation change by up to this part (0.4: to 60 % to 140 %). ``decode``: "cpu" uses no GPU for it;
    "auto" uses one if there is one. ``prefetch``: batches that DALI prepares ahead. ``stage``: training first copies
    ``path``, a pack, into this folder on every node and reads it there; in its name ``$NAME`` is a variable of the
    rank's environment and ``{node}`` the node's name (see docs/data-packs.md). ``resident``: decode each image once and
    keep its bytes on the rank's device, which then shifts and mirrors them; "auto" does so where a split has at most
    1 GiB of them. Not with ``resized_crop_flip``.
    """

    path: Path
    stage: Path | None = None
    images: PositiveInt | None = None
    held_out: NonNegativeInt | None = None
    skips: Path | None = None
    channels: Literal[1, 3] = 3
    size: PositiveInt
    batch_size: PositiveInt
    augment: Literal["none", "pad_crop_flip", "resized_crop_flip"] = "none"
    colour_jitter: NonNegativeFloat = 0.0
    decode: Literal["auto", "cpu"] = "auto"
    threads: PositiveInt | None = None
    prefetch: PositiveInt = 2
    resident: Literal["auto", True, False] = "auto"

    @property
    def can_be_resident(self) -> bool:
        """Whether all that a step sees of an image is cut from the same pixels."""
        return self.augment != "resized_crop_flip"
