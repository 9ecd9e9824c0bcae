"""Whether a network takes images of a size, found out before anything starts."""

from collections.abc import Iterable

import torch
from torch import nn

from hpcfast.errors import UserError
from hpcfast.models import ModelSettings


def check(settings: ModelSettings, classes: int, channels: int, sizes: Iterable[int], batch: int = 2) -> None:
    """Make sure that the network trains on ``batch`` images (or 2, of more) of each of ``sizes``.

    No random number is drawn. Networks are tried without memory or arithmetic, on torch's device "meta", and only
    where that fails on the CPU: code of the user's own may not know that device.

    Raises:
        UserError: it doesn't, or its logits are not of shape (n, classes).
    """
    for size in sorted(set(sizes)):
        shape = (min(batch, 2), channels, size, size)
        try:
            _try(settings, classes, shape, "meta")
        except Exception:  # noqa: BLE001 - networks raise whatever they like
            try:
                _try(settings, classes, shape, "cpu")
            except UserError:
                raise
            except Exception as error:  # noqa: BLE001
                said = str(error).strip().partition("\n")[0] or type(error).__name__
                raise UserError(
                    f"model.name: {settings.name} with model.options={settings.options} cannot train on "
                    f"{shape[0]} images of {channels} x {size} x {size}: {said}. Set data.size (and the sizes of "
                    f"phases) to what it takes, or tell it, as vision transformers want: model.options.img_size={size}"
                ) from None


def _try(settings: ModelSettings, classes: int, shape: tuple[int, ...], device: str) -> None:
    with torch.random.fork_rng(devices=[]), torch.device(device), torch.no_grad():
        model: nn.Module = settings.build(classes)
        found = model.train()(torch.zeros(shape))
    expected = (shape[0], classes)
    if not isinstance(found, torch.Tensor) or tuple(found.shape) != expected:
        was = tuple(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
        raise UserError(f"model.name: {settings.name} returns {was}, not logits of shape {expected}")
