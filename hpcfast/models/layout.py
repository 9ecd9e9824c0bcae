"""In which memory layout a network computes."""

import torch
from torch import nn

BLOCK = 16
"""Channels that oneDNN's AVX-512 kernels work on at a time; those for AVX2 take 8."""


def memory_format(model: nn.Module) -> torch.memory_format:
    """Channels-last, which convolutions prefer on CPUs and GPUs alike; contiguous where that would damage memory.

    oneDNN 3.12 (torch 2.14) gathers the input of a strided 1x1 convolution before it computes the gradient of its
    weights. In channels-last layout, with fewer input channels than ``BLOCK``, it writes past the end of the memory
    that it reserved for that: wrong gradients, crashes or hangs, at any size of images. The shortcuts of narrow
    ResNets are such convolutions. ``scripts/sweep_convolutions.py`` looks for others.
    """
    if torch.cuda.is_available() or not any(map(_overruns, model.modules())):
        return torch.channels_last
    return torch.contiguous_format


def _overruns(module: nn.Module) -> bool:
    return (
        isinstance(module, nn.Conv2d)
        and module.kernel_size == (1, 1)
        and module.stride != (1, 1)
        and module.groups == 1
        and module.in_channels < BLOCK
    )
