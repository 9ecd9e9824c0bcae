"""Channels-last, the memory layout that convolutions prefer on CPUs and GPUs, made safe for narrow networks."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BLOCK = 16
"""Channels that oneDNN's AVX-512 kernels work on at a time; those for AVX2 take 8."""


def lay_out(model: nn.Module) -> nn.Module:
    """Lay out ``model`` channels-last, in place, and return it.

    oneDNN 3.12 (torch 2.14) gathers the input of a strided 1x1 convolution before it computes the gradient of its
    weights. With fewer input channels than ``BLOCK`` it writes past the end of the memory that it reserved for that:
    wrong gradients, crashes or hangs, at any size of images. The shortcuts of narrow ResNets are such convolutions.
    Here they take every ``stride``-th pixel first and then have no stride, which is the same function.
    ``campaigns/sweep_convolutions.py`` looks for others.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and _overruns(module):
            module.register_forward_pre_hook(partial(_every, module.stride))
            module.stride = (1, 1)
    return model.to(memory_format=torch.channels_last)


def _overruns(conv: nn.Conv2d) -> bool:
    return (
        conv.kernel_size == (1, 1)
        and conv.stride != (1, 1)
        and conv.padding == (0, 0)
        and conv.groups == 1
        and conv.in_channels < BLOCK
    )


def _every(stride: tuple[int, ...], _: nn.Module, inputs: tuple[Tensor]) -> Tensor:
    return F.avg_pool2d(inputs[0], 1, stride)  # one kernel that keeps the layout; slicing is four and slower
