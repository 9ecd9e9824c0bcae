"""``data.path: synthetic:IMAGESxCLASSES``: batches without a disk or a decoder, to measure what compute alone costs.

All batches of a size are one tensor of noise that stays on the device. There is nothing in them to learn.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from hpcfast.data import Batch, DataSettings
from hpcfast.data.split import Split
from hpcfast.errors import UserError

VAL = 20
"""For so many training images there is one to validate with, and at least one a class."""


@dataclass(frozen=True)
class SyntheticSplit(Split):
    """Images that have names, labels and ids, but no bytes."""

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


def read(text: str) -> tuple[SyntheticSplit, SyntheticSplit]:
    """The ``train`` and ``val`` splits that ``text`` asks for, e.g. ``synthetic:100000x1000``; UserError if none."""
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

    return split("train", images), split("val", max(classes, images // VAL))
