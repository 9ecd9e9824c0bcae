"""ResNets for images of 28 to 32 pixels: a 3x3 stem and no max-pooling (He et al. 2016, section 4.2).

Registered with timm, so that ``name: cifar_resnet18`` works wherever a timm model does. Options: ``width``, the
channels of the stem and of the first stage; ``stem_stride: 2`` quarters the cost and suits 28-pixel grey images.
``cifar_resnet20`` to ``110`` are the paper's own thin networks, whose shortcuts have no weights.
"""

from functools import partial
from typing import Any

import torch.nn.functional as F
from timm.models import build_model_with_cfg, register_model
from timm.models.resnet import BasicBlock, Bottleneck, downsample_conv
from torch import Tensor, nn


class CifarResNet(nn.Module):
    """Stem, stages of residual blocks (each but the first halves the resolution), mean pool, linear layer."""

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        layers: tuple[int, ...],
        *,
        num_classes: int,
        in_chans: int,
        width: int = 64,
        stem_stride: int = 1,
        padded: bool = False,
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(in_chans, width, 3, stem_stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        )
        stages, channels = [], width
        for stage, depth in enumerate(layers):
            planes = width * 2**stage
            for index in range(depth):
                stride, out = 2 if stage > 0 and index == 0 else 1, planes * block.expansion
                if stride == 1 and channels == out:
                    shortcut = None
                elif padded:
                    shortcut = PaddedShortcut(channels, out, stride)
                else:
                    shortcut = downsample_conv(channels, out, kernel_size=1, stride=stride)
                stages.append(block(channels, planes, stride, shortcut))
                channels = out
        self.blocks = nn.Sequential(*stages)
        self.fc = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.blocks(self.stem(x)).mean((2, 3)))


class PaddedShortcut(nn.Module):
    """Every ``stride``-th pixel, and zeros for the channels that are new, half of them before the others (option A)."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.stride, before = stride, (out - channels) // 2
        self.pad = (0, 0, 0, 0, before, out - channels - before)

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], self.pad)


def _register(name: str, block: Any, layers: tuple[int, ...], defaults: dict[str, Any]) -> None:
    def build(pretrained: bool = False, pretrained_cfg: Any = None, **options: Any) -> CifarResNet:
        # timm's way, which loads what `hpcfast export --format hub` has written
        about = pretrained_cfg or {"architecture": name, "first_conv": "stem.0", "classifier": "fc"}
        make = partial(CifarResNet, block, layers)
        return build_model_with_cfg(make, name, pretrained, about, **{**defaults, **options})

    build.__name__ = name
    register_model(build)


_register("cifar_resnet8", BasicBlock, (1, 1, 1), {"width": 16})  # a few CPU minutes to train
_register("cifar_resnet18", BasicBlock, (2, 2, 2, 2), {})  # the network of most CIFAR-10 robustness papers
_register("cifar_resnet50", Bottleneck, (3, 4, 6, 3), {})  # the paper's network at CIFAR-10's size
for _depth in (20, 32, 44, 56, 110):  # of He et al.: 0.27, 0.46, 0.66, 0.85 and 1.7 million weights
    _register(f"cifar_resnet{_depth}", BasicBlock, ((_depth - 2) // 6,) * 3, {"width": 16, "padded": True})
