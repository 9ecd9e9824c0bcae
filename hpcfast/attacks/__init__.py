"""Attacks: mathematics on tensors, ignorant of ranks, data sets and precision.

A norm is a :class:`~hpcfast.attacks.balls.Ball` (three functions), an attack a few lines over it. To add an
attack, add a file here with one subclass of :class:`Attack`; its file name is its name in a config.
"""

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hpcfast.attacks.balls import Ball
from hpcfast.attacks.noise import Source
from hpcfast.component import Component


class Attack(Component, ABC):
    """Settings of one attack, and the attack itself."""

    @abstractmethod
    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, ball: Ball, source: Source) -> Tensor:
        """Return adversarial images for ``x``.

        The model's parameters get no gradients, so that Horovod's hooks never fire; its mode (train or eval) is
        the caller's choice.

        Args:
            model: maps images to logits, shape (n, classes).
            x: clean images, shape (n, channels, height, width), float, pixels in [0,1].
            y: true classes, shape (n,), int64.
            ball: the perturbations allowed.
            source: of every random number the attack draws.

        Returns:
            Images of the shape of ``x``, detached, with ``x_adv - x`` inside the ball and pixels in [0,1].
        """


def input_gradient(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Gradient of the summed cross-entropy with respect to the images alone, of the shape of ``x``.

    ``torch.autograd.grad`` computes no weight gradients: a third cheaper than ``backward()``, which would also
    set off Horovod's allreduces. A sum and not a mean: directions don't depend on scale, and a mean's gradients
    underflow in half precision.
    """
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        loss = F.cross_entropy(model(x), y, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, x)
    return gradient


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """Largest wrong logit minus the true one, shape (n,): positive only where an image is misclassified."""
    true = logits.gather(1, y[:, None]).squeeze(1)
    wrong = logits.scatter(1, y[:, None], -torch.inf).amax(1)
    return wrong - true
