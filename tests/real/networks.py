"""The networks in plain torch and the images in plain Pillow: nothing of hpcfast is in them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import timm
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

CIFAR = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 32
IMAGENETTE = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), 224


@dataclass(frozen=True)
class Case:
    """A network, its weights, and images for it."""

    arch: str
    weights: Path
    data: Path
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    size: int

    def network(self) -> nn.Module:
        """The network, normalisation inside: images (n, 3, size, size) in [0,1] to logits."""
        make = effnet if "efficientnet" in self.arch else resnet
        return nn.Sequential(Normalise(self.mean, self.std), make(self.weights)).eval().requires_grad_(False)


class Normalise(nn.Module):
    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


class Block(nn.Module):
    """He et al.'s block with the shortcut of option A."""

    def __init__(self, channels: int, planes: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.wider = planes > channels

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.wider:
            more = torch.zeros_like(out)[:, : out.shape[1] // 4]
            x = torch.cat((more, x[:, :, ::2, ::2], more), 1)
        return F.relu(out + x)


class ResNet(nn.Module):
    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        for stage, (channels, planes) in enumerate([(16, 16), (16, 32), (32, 64)], 1):
            first = Block(channels, planes, 1 if stage == 1 else 2)
            self.add_module(
                f"layer{stage}", nn.Sequential(first, *(Block(planes, planes, 1) for _ in range(blocks - 1)))
            )
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x))))))
        return self.linear(x.mean((2, 3)))


def resnet(weights: Path) -> nn.Module:
    state = torch.load(weights, weights_only=True, map_location="cpu")["state_dict"]
    net = ResNet(sum(name.startswith("module.layer1") and name.endswith("conv1.weight") for name in state))
    net.load_state_dict({name.removeprefix("module."): tensor for name, tensor in state.items()})
    return net


def effnet(weights: Path) -> nn.Module:
    """Timm's network with the tensors of the file, one after the other."""
    state = [t for name, t in torch.load(weights, weights_only=True).items() if "num_batches" not in name]
    net = timm.create_model("tf_efficientnet_lite0", num_classes=1000)
    own = [tensor for name, tensor in net.state_dict().items() if "num_batches" not in name]
    for mine, theirs in zip(own, state, strict=True):
        mine.copy_(theirs)
    return net


def pixels(files: Sequence[Path]) -> Tensor:
    """Images of one size, shape (n, 3, h, w), float32 in [0,1]."""
    arrays = [np.asarray(Image.open(file).convert("RGB")) for file in files]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous().float() / 255


@torch.no_grad()
def classes(network: Callable[[Tensor], Tensor], files: Sequence[Path], batch: int = 50) -> list[int]:
    return [c for i in range(0, len(files), batch) for c in network(pixels(files[i : i + batch])).argmax(1).tolist()]
