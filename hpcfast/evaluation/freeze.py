"""A network as it is measured: still, in float32, and faster than the one that trains."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.fx.experimental import optimization

TOLERANCE = 1e-3
"""Largest difference of logits, relative to the largest of them, that folding may make; rounding makes 1e-6."""


def frozen(model: nn.Module, x: Tensor) -> nn.Module:
    """A copy of ``model`` in eval mode whose weights want no gradients.

    The copy keeps attacks away from what belongs to training: modes, gradients, Horovod's hooks. BatchNorm is folded
    into the convolution before it where torch.fx can follow the network and ``x`` (a few images) shows no difference:
    on a CPU a step of PGD then takes three quarters of the time.
    """
    plain = copy.deepcopy(model).eval().requires_grad_(False)
    try:
        folded = optimization.fuse(plain).requires_grad_(False).to(memory_format=torch.channels_last)
        with torch.no_grad():
            expected, found = plain(x), folded(x)
    except Exception:  # noqa: BLE001 - networks that cannot be traced fail in every way there is
        return plain
    close = (found - expected).abs().amax() <= TOLERANCE * expected.abs().amax()
    return folded if close else plain


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put ``model`` in eval mode for this block and give it its own mode back."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


@contextmanager
def full_precision() -> Iterator[None]:
    """Compute in float32 proper: NVIDIA's TF32, the default of convolutions, keeps ten bits of 23."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before
