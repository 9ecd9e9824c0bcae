"""What tests of the loader share: reading batches, and pixels as PIL sees them."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from hpcfast.component import validate
from hpcfast.data import Batch, DataSettings, feed
from hpcfast.data.reader import read_splits

CPU = torch.device("cpu")
AUGMENTS = ["none", "pad_crop_flip", "resized_crop_flip"]


def settings(root: Path, size: int, channels: int = 3, augment: str = "none") -> DataSettings:
    values = {"path": root, "size": size, "channels": channels, "batch_size": 4, "augment": augment}
    return validate(DataSettings, values | {"resident": False})


def read(
    data: DataSettings,
    key: int | None = None,
    shard: tuple[int, int] = (0, 1),
    ids: np.ndarray | list[int] | None = None,
    batch: int = 4,
    threads: int = 1,
) -> list[Batch]:
    """All batches of the training split, or of ``ids`` of it."""
    split = read_splits(data.path)[0]
    chosen = np.arange(len(split)) if ids is None else np.array(ids)
    return list(feed.batches(split, chosen, data, feed.Shard(*shard, CPU, threads), batch, key))


def joined(batches: list[Batch]) -> Batch:
    return Batch(*(torch.cat(parts) for parts in zip(*batches, strict=True)))


def by_id(batches: list[Batch]) -> dict[int, torch.Tensor]:
    """Each image as it was read; no id may come twice."""
    x, _, ids = joined(batches)
    assert len(set(ids.tolist())) == len(ids)
    return dict(zip(ids.tolist(), x, strict=True))


def pil(root: Path, channels: int) -> torch.Tensor:
    mode = "L" if channels == 1 else "RGB"
    images = [np.array(Image.open(file).convert(mode)) for file in read_splits(root)[0].files]
    stacked = torch.tensor(np.stack(images), dtype=torch.float32) / 255
    return stacked.unsqueeze(1) if channels == 1 else stacked.permute(0, 3, 1, 2)
