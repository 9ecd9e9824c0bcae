"""Models: any of timm's by name, and those registered by the files of this package.

Normalisation is the model's first layer: images enter in [0,1], so that eps means pixels everywhere.
"""

import importlib
import pkgutil
from collections import OrderedDict
from typing import Annotated, Any

import timm
import torch
from pydantic import AfterValidator, Field, PositiveFloat
from torch import Tensor, nn

from hpcfast.component import Settings, choices
from hpcfast.errors import UserError
from hpcfast.models.layout import memory_format

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")


def _known(name: str) -> str:
    if name not in timm.list_models():
        raise ValueError(choices(name, timm.list_models()))
    return name


class ModelSettings(Settings):
    """Which network, and the mean and standard deviation (pixels in [0,1], one a channel) it normalises by."""

    name: Annotated[str, AfterValidator(_known)]
    options: dict[str, Any] = Field(default_factory=dict)
    mean: tuple[float, ...]
    std: tuple[PositiveFloat, ...]

    def build(self, classes: int) -> nn.Module:
        """Return the network with fresh weights: images (n, len(mean), h, w) in [0,1] to logits (n, classes).

        Weights are laid out as :func:`~hpcfast.models.layout.memory_format` says.

        Raises:
            UserError: the network does not know one of ``options``.
        """
        try:
            net = timm.create_model(self.name, num_classes=classes, in_chans=len(self.mean), **self.options)
        except (TypeError, ValueError, RuntimeError, AssertionError) as error:
            raise UserError(f"model.options: {self.options} does not suit {self.name}: {error}") from None
        model = nn.Sequential(OrderedDict(normalise=Normalise(self.mean, self.std), net=net))
        return model.to(memory_format=memory_format(model))


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


def load_weights(model: nn.Module, weights: dict[str, Tensor], origin: str) -> None:
    """Load ``weights`` into ``model``, in place.

    Raises:
        UserError: names or shapes don't match; the message names ``origin`` and the first mismatch.
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
    model.load_state_dict(weights)
