"""Whether a network takes images of a size, found out before anything starts."""

from collections.abc import Iterable

import torch
from timm.layers import PatchEmbed
from torch import nn

from hpcfast.errors import UserError
from hpcfast.models import ModelSettings

WEIGHTS = ("pretrained", "checkpoint_path")
"""Options of timm's that read weights, which a trial has no use for."""


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
                    f"model.name: {settings.name} with model.options={settings.options} does not take "
                    f"{shape[0]} images of {channels} x {size} x {size}: {said}. Set data.size (and the sizes of "
                    f"phases) to what it takes{_or_tell_it(settings, classes, shape)}"
                ) from None


def _or_tell_it(settings: ModelSettings, classes: int, shape: tuple[int, ...]) -> str:
    """The other cure, that of vision transformers, where it is one."""
    told = settings.model_copy(update={"options": {**settings.options, "img_size": shape[-1]}})
    try:
        _try(told, classes, shape, "meta")
    except Exception:  # noqa: BLE001 - see above
        return ""
    return f", or tell it with model.options.img_size={shape[-1]}"


def _try(settings: ModelSettings, classes: int, shape: tuple[int, ...], device: str) -> None:
    fresh = {key: value for key, value in settings.options.items() if key not in WEIGHTS}
    with torch.random.fork_rng(devices=[]), torch.device(device), torch.no_grad():
        model: nn.Module = settings.model_copy(update={"options": fresh}).build(classes)
        for module in model.modules():
            if isinstance(module, PatchEmbed):
                _refuse_remainder(module, shape[-1])
        found = model.train()(torch.zeros(shape))
    expected = (shape[0], classes)
    if not isinstance(found, torch.Tensor) or tuple(found.shape) != expected:
        was = tuple(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
        raise UserError(f"model.name: {settings.name} returns {was}, not logits of shape {expected}")


def _refuse_remainder(module: PatchEmbed, size: int) -> None:
    """Timm leaves out what does not fill a patch, without a word: nothing there could be seen, or attacked."""
    patches: tuple[int, ...] = tuple(module.patch_size)
    if not module.dynamic_img_pad and any(size % patch for patch in patches):
        raise ValueError(f"patches of {patches[0]} pixels don't divide {size}, and the rest would not be seen")
