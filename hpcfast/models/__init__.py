"""Models: any of timm's by name, those registered by the files of this package, and one's own by import path.

Normalisation is the model's first layer: images enter in [0,1], so that eps means pixels everywhere.
"""

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import timm
import torch
import torch.nn.functional as F
from pydantic import AfterValidator, Field
from torch import Tensor, nn

from hpcfast import foreign
from hpcfast.component import Settings, choices
from hpcfast.errors import UserError
from hpcfast.models import networks as networks  # registers them with timm

BLOCK = 16
"""Channels that oneDNN's AVX-512 kernels work on at a time; those for AVX2 take 8."""


def _known(name: str) -> str:
    if foreign.is_path(name):
        try:
            _ = _maker(name)
        except foreign.Untrusted:
            raise
        except UserError as error:
            raise ValueError(str(error)) from error.__cause__
    elif name not in timm.list_models():
        raise ValueError(choices(name, timm.list_models()))
    return name


def _maker(name: str) -> Callable[..., nn.Module]:
    """What builds the network ``name``, given ``num_classes``, ``in_chans`` and its options."""
    if not foreign.is_path(name):
        return partial(timm.create_model, name)
    found = foreign.load(name)
    if not callable(found):
        raise UserError(f"'{name}' is a {type(found).__name__}; it must be a function or class that makes a network")
    return found


def _pixels(values: tuple[float, ...]) -> tuple[float, ...]:
    if not all(0 <= value <= 1 for value in values):
        raise ValueError("must lie in [0,1] in every channel, as pixels do; divide numbers for 0-255 by 255")
    return values


def _above_zero(values: tuple[float, ...]) -> tuple[float, ...]:
    if not all(0 < value <= 1 for value in values):
        raise ValueError(
            "must be above 0 and at most 1 in every channel, for pixels in [0,1]; 1 changes nothing, "
            "divide numbers for 0-255 by 255"
        )
    return values


class ModelSettings(Settings):
    """Which network, and how it normalises images."""

    name: Annotated[str, AfterValidator(_known)]
    """Any timm model, or ``cifar_resnet8``, ``18``, ``20``, ``32``, ``44``, ``50``, ``56``, ``110``."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of the network."""
    mean: Annotated[tuple[float, ...], AfterValidator(_pixels)]
    """Subtracted from pixels, one number per channel, each in [0, 1]."""
    std: Annotated[tuple[float, ...], AfterValidator(_above_zero)]
    """Pixels are divided by it, one number per channel, each in (0, 1]."""

    def build(self, classes: int) -> nn.Module:
        """Return the network with fresh weights: images (n, len(mean), h, w) in [0,1] to logits (n, classes).

        Weights are laid out channels-last (:func:`lay_out`).

        Raises:
            UserError: the network does not know one of ``options``, or code of the user's own makes none.
        """
        try:
            net = _maker(self.name)(num_classes=classes, in_chans=len(self.mean), **self.options)
        except (TypeError, ValueError, RuntimeError, AssertionError) as error:
            raise UserError(f"model.options: {self.options} does not suit {self.name}: {error}") from None
        if not isinstance(net, nn.Module):
            raise UserError(f"model.name: {self.name} returned a {type(net).__name__}; it must return an nn.Module")
        model = nn.Sequential(OrderedDict(normalise=Normalise(self.mean, self.std), net=net))
        return lay_out(model)


class Normalise(nn.Module):
    """Subtract the mean, divide by the standard deviation, channel by channel."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


def lay_out(model: nn.Module) -> nn.Module:
    """Lay out ``model`` channels-last, the memory layout that convolutions prefer, in place, and return it.

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
    pointwise = conv.kernel_size == (1, 1) and conv.padding == (0, 0) and conv.groups == 1
    return pointwise and conv.stride != (1, 1) and conv.in_channels < BLOCK


def _every(stride: tuple[int, ...], _: nn.Module, inputs: tuple[Tensor]) -> Tensor:
    return F.avg_pool2d(inputs[0], 1, stride)  # one kernel that keeps the layout; slicing is four and slower


def load_weights(model: nn.Module, weights: dict[str, Tensor], origin: str) -> None:
    """Load ``weights`` into ``model``, in place.

    Raises:
        UserError: names, shapes or the normalisation don't match; the message names ``origin`` and the first mismatch.
    """
    own = model.state_dict()
    for name in sorted(own.keys() | weights.keys()):
        expected = tuple(own[name].shape) if name in own else "nothing"
        found = tuple(weights[name].shape) if name in weights else "nothing"
        if expected != found:
            raise UserError(
                f"{origin} holds the weights of another model: {name} is {found}, the configured model has "
                f"{expected}. Use the config.yaml beside it, or another run's name."
            )
    for key in ("mean", "std"):
        name = f"normalise.{key}"
        if name in own and not torch.equal(own[name].cpu(), weights[name].cpu()):
            raise UserError(
                f"{origin} holds the weights of a model that normalises otherwise: model.{key} is "
                f"{_shown(weights[name])}, configured is {_shown(own[name])}. Leave model.{key} as it was in training."
            )
    model.load_state_dict(weights)


def _shown(values: Tensor) -> str:
    return f"[{', '.join(f'{value:.6g}' for value in values.flatten().tolist())}]"


def not_finite(weights: dict[str, Tensor]) -> str | None:
    """Say which of ``weights`` hold NaN or infinite numbers; None if none does."""
    odd = [name for name, tensor in weights.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    if not odd:
        return None
    first = weights[odd[0]]
    return (
        f"{len(odd)} of its {len(weights)} tensors hold numbers that are not finite, first {odd[0]} "
        f"({int(first.isnan().sum())} NaN, {int(first.isinf().sum())} infinite, of {first.numel()})"
    )
