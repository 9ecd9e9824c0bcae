"""Splits whose images have names, labels and ids, but no files: noise, or tensors that a caller has."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from hpcfast.data import Batch, DataSettings, onbatch
from hpcfast.data.split import Split


@dataclass(frozen=True)
class MadeSplit(Split, ABC):
    """A split that makes its batches itself."""

    kind: ClassVar[str]

    def encoded(self, i: int) -> np.ndarray:
        raise OSError(f"{self.files[i]} is {self.kind} and has no file")

    @cached_property
    def stats(self) -> np.ndarray:
        return np.zeros((len(self), 2), np.int64)

    def folders(self) -> list[Path]:
        return []

    @abstractmethod
    def batches(
        self, ids: np.ndarray, settings: DataSettings, device: torch.device, batch_size: int
    ) -> Iterator[Batch]:
        """Batches of ``ids``, in this order."""


@dataclass(frozen=True)
class SyntheticSplit(MadeSplit):
    """Noise, uniform in [0, 1): to measure what compute alone costs. There is nothing in it to learn.

    All batches of a size are one tensor that stays on the device.
    """

    kind = "synthetic"

    def batches(
        self, ids: np.ndarray, settings: DataSettings, device: torch.device, batch_size: int
    ) -> Iterator[Batch]:
        shape = (min(batch_size, len(ids)), settings.channels, settings.size, settings.size)
        x = torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(device)
        for start in range(0, len(ids), batch_size):
            some = ids[start : start + batch_size]
            y = torch.as_tensor(self.labels[some]).to(device)
            yield Batch(x[: len(some)], y, torch.as_tensor(some).to(device))


@dataclass(frozen=True)
class TensorSplit(MadeSplit):
    """Images in memory."""

    kind = "a tensor"
    images: Tensor = field(kw_only=True, compare=False, repr=False)
    """Shape (n, channels, size, size): float32 in [0,1], or uint8."""

    @classmethod
    def of(cls, images: Tensor, labels: np.ndarray, classes: tuple[str, ...]) -> "TensorSplit":
        """Images that are called by their numbers."""
        root = Path("images")
        return cls(root, [f"{root}/{number}" for number in range(len(images))], labels, classes, images=images)

    def at(self, ids: np.ndarray) -> Self:
        return replace(super().at(ids), images=self.images[torch.as_tensor(ids)])

    def batches(
        self, ids: np.ndarray, settings: DataSettings, device: torch.device, batch_size: int
    ) -> Iterator[Batch]:
        for start in range(0, len(ids), batch_size):
            some = torch.as_tensor(ids[start : start + batch_size])
            x = self.images[some].to(device)
            y = torch.as_tensor(self.labels[some.numpy()]).to(device)
            yield Batch(onbatch.floats(x) if x.dtype == torch.uint8 else x, y, some.to(device))
