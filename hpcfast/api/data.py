"""Images for :func:`hpcfast.evaluate` and for loops of one's own."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from hpcfast.api import checks, ranks
from hpcfast.attacks.rng import seed_of
from hpcfast.component import validate
from hpcfast.data import DataSettings, feed, folder, packed
from hpcfast.data.made import TensorSplit
from hpcfast.data.order import train_order
from hpcfast.data.reader import read_splits
from hpcfast.data.split import Split, match
from hpcfast.errors import UserError

Batches = Iterable[tuple[Tensor, Tensor]]
"""Of images (n, channels, height, width), float, pixels in [0,1], and their classes (n,), int64."""


class Loader:
    """Batches ``(x, y)`` of a folder's images, on this rank's device; see :func:`loader`."""

    def __init__(self, split: Split, settings: DataSettings, shuffle: bool, seed: int) -> None:
        self.split, self.settings = split, settings
        self._shuffle, self._seed, self._epoch = shuffle, seed, 0
        self._world = ranks.world()

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, by their numbers."""
        return self.split.classes

    def __len__(self) -> int:
        per_rank = len(self._ids()) // self._world.size
        return -(-per_rank // self.settings.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch; each is shuffled and augmented anew. In a job of several ranks each has its own part.

        Raises:
            UserError: an image cannot be read.
        """
        ids, key = self._ids(), seed_of(self._seed, self._epoch)
        self._epoch += 1
        shard = feed.Shard.of(self._world, self.settings.threads)
        augmented = None if self.settings.augment == "none" and not self.settings.colour_jitter else key
        for batch in feed.batches(self.split, ids, self.settings, shard, self.settings.batch_size, augmented):
            yield batch.x, batch.y

    def first(self, images: int) -> Tensor:
        """The first images, as they are, of whatever rank's part; no epoch begins."""
        shard = feed.Shard(0, 1, self._world.device, self.settings.threads or self._world.threads)
        batches = feed.batches(self.split, self.split.good[:images], self.settings, shard, images, None)
        return next(batch.x for batch in batches)

    def _ids(self) -> np.ndarray:
        if not self._shuffle:
            return self.split.good
        rank = self._world.size, self.settings.batch_size
        return train_order(len(self.split), self._seed, self._epoch, *rank, skips=[*self.split.skips])


def loader(
    path: str | Path, size: int, *, split: Literal["train", "val"] = "val", channels: Literal[1, 3] = 3,
    batch_size: int = 100, augment: Literal["none", "pad_crop_flip", "resized_crop_flip"] = "none",
    shuffle: bool = False, seed: int = 0, classes: Sequence[str] | None = None,
) -> Loader:  # fmt: skip
    """Read the images in a folder with a folder for each class, decoded by DALI where it is installed.

    Args:
        path: the folder, or one with ``train/`` and ``val/``, or a pack that ``hpcfast data pack`` has made.
        size: of the images, pixels; others are resized.
        split: which part, where there are two.
        channels: 3 for RGB, 1 for grey.
        batch_size: images of a batch, on each rank.
        augment: see :class:`hpcfast.data.DataSettings`; as drawn from ``seed``, the epoch and the image's number.
        shuffle: in a new order for each epoch, the same whatever the number of ranks; a last batch that is not whole
            on all ranks is left out.
        classes: names of a model's classes in the order of its logits (``hpcfast.load(…).classes``): those of the
            folders are numbered like them. By default they are numbered in the order of their names.

    Returns:
        An iterable of ``(x, y)``: x (n, channels, size, size), float32, pixels in [0,1]; y (n,), int64.

    Raises:
        UserError: there are no such images, or a setting is wrong.
    """
    root = Path(path)
    values = {"path": root, "size": size, "channels": channels, "batch_size": batch_size, "augment": augment}
    settings = validate(DataSettings, values)
    whole = packed.is_pack(root) or (root / split).is_dir() or str(root).startswith("synthetic:")
    chosen = read_splits(root)[split == "val"] if whole else folder.read_split(root, "path")
    if classes is not None:
        chosen, _ = match(chosen, classes, "classes")
    return Loader(chosen, settings, shuffle, seed)


def in_memory(pairs: Sequence[tuple[Tensor, Tensor]], classes: tuple[str, ...]) -> TensorSplit:
    """All batches as one split, whose ``classes`` are called so, by number."""
    for x, y in pairs:
        checks.images(x)
        checks.classes(y, x, len(classes))
    shapes = {tuple(x.shape[1:]) for x, _ in pairs}
    if len(shapes) > 1:
        raise UserError(f"data: images of {len(shapes)} shapes, such as {sorted(shapes)[:2]}; give images of one shape")
    x, y = (torch.cat([pair[part].detach() for pair in pairs]) for part in (0, 1))
    if x.shape[2] != x.shape[3]:
        raise UserError(f"data: images of {x.shape[2]} x {x.shape[3]} pixels; give square ones")
    return TensorSplit.of(x.float(), y.cpu().numpy(), classes)
