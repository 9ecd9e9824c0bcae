"""Weights of small networks to save in the layouts of others, and what they must be read with."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision
from torch import Tensor, nn

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
GIVEN: dict[str, Any] = {"mean": MEAN, "std": STD}


def images(channels: int = 3, size: int = 32) -> Tensor:
    return torch.rand(3, channels, size, size, generator=torch.Generator().manual_seed(0))


def shaken(net: nn.Module) -> nn.Module:
    """``net`` with statistics and biases that a mistake cannot leave as they were."""
    generator = torch.Generator().manual_seed(1)
    for tensor in net.state_dict().values():
        if tensor.is_floating_point() and tensor.dim() == 1:
            tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
    return net


@functools.cache
def resnet() -> nn.Module:
    torch.manual_seed(0)
    return shaken(torchvision.models.resnet18(num_classes=5))


@functools.cache
def small() -> nn.Module:
    torch.manual_seed(0)
    return shaken(timm.create_model("cifar_resnet8", num_classes=5, in_chans=3))


def saving(folder: Path) -> Callable[[Any], Path]:
    """Call it with what to save; it returns the file."""

    def save(content: Any) -> Path:
        torch.save(content, folder / "weights.pt")
        return folder / "weights.pt"

    return save


Save = Callable[[Any], Path]
