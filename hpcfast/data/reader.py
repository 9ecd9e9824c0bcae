"""The splits that ``data.path`` names, in whatever form: a folder, a pack, or ``synthetic:…``, which needs no disk."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from hpcfast.data import Batch, DataSettings, folder, packed, skips
from hpcfast.data.split import Split
from hpcfast.errors import UserError

SYNTHETIC_VAL = 20
"""For so many synthetic training images there is one to validate with, and at least one a class."""


def read_splits(root: Path, listed: Path | None = None, copy: Path | None = None) -> tuple[Split, Split]:
    """List the ``train`` and ``val`` splits of ``root``, read from its ``copy`` if it is a pack that has one.

    Without the images in the list (see :mod:`hpcfast.data.skips`) ``listed``, by default ``root/skips.txt``.

    Raises:
        UserError: a split is missing or has fewer than two classes, a class is empty, or the classes differ.
    """
    if str(root).startswith("synthetic:"):
        return _synthetic(str(root))
    train, val = packed.read(root, copy) if packed.is_pack(root) else folder.read(root)
    own = root / skips.NAME
    names = skips.read(listed or own) if listed or own.exists() else {}
    return skips.without(train, names), skips.without(val, names)


@dataclass(frozen=True)
class SyntheticSplit(Split):
    """Images that have names, labels and ids, but no bytes: to measure what compute alone costs.

    All batches of a size are one tensor of noise that stays on the device. There is nothing in them to learn.
    """

    def encoded(self, i: int) -> np.ndarray:
        raise OSError(f"{self.files[i]} is synthetic and has no file")

    @cached_property
    def stats(self) -> np.ndarray:
        return np.zeros((len(self), 2), np.int64)

    def folders(self) -> list[Path]:
        return []

    def batches(
        self, ids: np.ndarray, settings: DataSettings, device: torch.device, batch_size: int
    ) -> Iterator[Batch]:
        """Batches of ``ids``, in this order, with the right labels and always the same pixels, uniform in [0, 1)."""
        shape = (min(batch_size, len(ids)), settings.channels, settings.size, settings.size)
        x = torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(device)
        for start in range(0, len(ids), batch_size):
            some = ids[start : start + batch_size]
            y = torch.as_tensor(self.labels[some]).to(device)
            yield Batch(x[: len(some)], y, torch.as_tensor(some).to(device))


def _synthetic(text: str) -> tuple[SyntheticSplit, SyntheticSplit]:
    match = re.fullmatch(r"synthetic:(\d{1,10})x(\d{1,10})", text)
    images, classes = (int(number) for number in match.groups()) if match else (0, 0)
    if not 2 <= classes <= images:
        raise UserError(
            f"data.path: '{text}' must be synthetic:IMAGESxCLASSES, with at least 2 classes and an image for each, "
            f"e.g. synthetic:100000x1000"
        )
    names = tuple(f"class{label:05d}" for label in range(classes))

    def split(name: str, n: int) -> SyntheticSplit:
        files = [f"{text}/{name}/{i:08d}" for i in range(n)]
        return SyntheticSplit(Path(text), files, np.arange(n) * classes // n, names)

    return split("train", images), split("val", max(classes, images // SYNTHETIC_VAL))
