"""What is wrong with a caller's model, images or classes, before a number is made of them."""

import torch
from torch import Tensor, nn

from hpcfast.errors import UserError


def mode(model: nn.Module) -> None:
    """Raise UserError unless ``model`` is in eval mode."""
    if model.training:
        raise UserError(
            "the model is in train mode: BatchNorm would take its statistics from the attacked images, and Dropout "
            "would draw; call model.eval() first (an attack within training: train_mode=True)"
        )


def images(x: Tensor) -> None:
    """Raise UserError unless ``x`` is a batch of images with pixels in [0,1]."""
    if not isinstance(x, Tensor) or x.dim() != 4 or not x.is_floating_point():
        raise UserError(
            f"x is {_described(x)}; give images as a float tensor of shape (n, channels, height, width), bytes as "
            f"x.float() / 255"
        )
    low, high = (x.min().item(), x.max().item()) if x.numel() else (0.0, 1.0)
    if not 0 <= low <= high <= 1:  # false for NaN, too
        raise UserError(
            f"x has pixels from {low:.4g} to {high:.4g}; give pixels in [0,1]. If the model wants normalised images, "
            f"put the normalisation into it: nn.Sequential(transforms.Normalize(mean, std), model)"
        )


def classes(y: Tensor, x: Tensor, known: int | None = None) -> None:
    """Raise UserError unless ``y`` are classes of the images ``x``, below ``known``."""
    if not isinstance(y, Tensor) or y.dim() != 1 or y.dtype != torch.int64 or len(y) != len(x):
        raise UserError(
            f"y is {_described(y)} for {len(x)} images; give true classes as an int64 tensor of shape ({len(x)},)"
        )
    if len(y) and not (y.min() >= 0 and (known is None or y.max() < known)):
        legal = "0 or more" if known is None else f"0 to {known - 1}, as the model has {known} logits"
        raise UserError(f"y has classes from {int(y.min())} to {int(y.max())}; legal are {legal}")


def device(model: nn.Module, x: Tensor) -> None:
    """Raise UserError unless the model's weights are where ``x`` is."""
    place = next((weights.device for weights in model.parameters()), x.device)
    if place != x.device:
        raise UserError(f"x is on {x.device}, the model on {place}; move one of them, e.g. x.to('{place}')")


def logits(found: Tensor, x: Tensor) -> Tensor:
    """Return ``found``, or raise UserError unless they are finite logits for the images ``x``."""
    if not isinstance(found, Tensor) or found.dim() != 2 or len(found) != len(x) or found.shape[1] < 2:
        raise UserError(
            f"the model returns {_described(found)} for {len(x)} images; it must return logits of shape ({len(x)}, "
            f"classes), for 2 classes or more"
        )
    if not found.isfinite().all():
        odd = int((~found.isfinite().all(1)).sum())
        raise UserError(f"the model gives logits that are not finite for {odd} of {len(x)} images; check its weights")
    return found


def _described(value: object) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} of shape {tuple(value.shape)}"
    return f"a {type(value).__name__}"
