"""Attacks and training methods: mathematics on tensors, ignorant of ranks, data sets and precision.

A norm is a :class:`~hpcfast.attacks.norms.Ball` (three functions), an attack a few lines over it. To add an
attack, add a file here with one subclass of :class:`Attack`; its file name is its name in a config. A training
method that is more than "minimise the loss of attacked images" also overrides :meth:`Attack.losses`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hpcfast.attacks.norms import Ball, Pixels
from hpcfast.attacks.rng import Source
from hpcfast.component import Component

__all__ = [
    "Attack",
    "Ball",
    "Criterion",
    "Pixels",
    "Source",
    "Sources",
    "Try",
    "gradient",
    "in_turn",
    "input_gradient",
    "margin",
]

Criterion = Callable[[Tensor, Tensor], Tensor]
"""Maps logits (n, classes) and true classes (n,) to the mean loss, a scalar."""

Try = Callable[[nn.Module, Tensor, Tensor, Ball, Source], Tensor]
"""One attempt at fooling a model; arguments and result are those of :meth:`Attack.perturb`."""

Sources = Callable[[int, Tensor], Source]
"""Maps the number of a try (from 0) and the rows of the images that it attacks to what its random numbers come from."""

_SCALE = 1024.0


class Attack(Component, ABC):
    """Settings of one attack, and the attack itself."""

    plainly: ClassVar[str] = ""
    """What it does, in a sentence for people who don't know it; reports show that."""
    in_ball: ClassVar[bool] = True
    """False: leaves the threat model's ball by design, so that no evaluation may use it."""
    guarded: ClassVar[bool] = True
    """Whether training with it is watched for catastrophic overfitting."""
    trains: ClassVar[bool] = True
    """False: to measure with only; a step of training would take thousands."""

    @property
    def updates(self) -> int:
        """Optimizer steps that a batch takes: how many :meth:`losses` there are."""
        return 1

    @abstractmethod
    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, ball: Ball, source: Source) -> Tensor:
        """Return adversarial images for ``x``.

        The model's parameters get no gradients, so that Horovod's hooks never fire; its mode (train or eval) is
        the caller's choice.

        Args:
            model: maps images to logits, shape (n, classes), float32 whatever it computes in.
            x: clean images, shape (n, channels, height, width), float, pixels in [0,1].
            y: true classes, shape (n,), int64.
            ball: the perturbations allowed.
            source: of every random number the attack draws.

        Returns:
            Images of the shape of ``x``, detached, with pixels in [0,1] and (if ``in_ball``) ``x_adv - x`` inside
            the ball.
        """

    def tries(self, ball: Ball, classes: int) -> dict[str, Try]:
        """What an evaluation of a model of so many ``classes`` runs, by name, each where those before it failed."""
        return {self.name: self.perturb}

    def losses(
        self, model: nn.Module, x: Tensor, y: Tensor, ball: Ball, source: Source, criterion: Criterion
    ) -> Iterator[Tensor]:
        """What training minimises for one batch: scalars, ``updates`` of them; ``criterion``: the loss to train with.

        Each is one optimizer step: the caller runs backward and step on it before it asks for the next.
        """
        yield criterion(model(self.perturb(model, x, y, ball, source)), y)


@torch.no_grad()
def in_turn(tries: Iterable[Try], model: nn.Module, x: Tensor, y: Tensor, ball: Ball, sources: Sources) -> Tensor:
    """The worst case: each of ``tries`` at the images that are still classified rightly after those before it.

    An image that is misclassified stays as it is. Arguments and result are those of :meth:`Attack.perturb`.
    """
    worst, held = x.clone(), (model(x).argmax(1) == y).nonzero().squeeze(1)
    for number, attempt in enumerate(tries):
        if len(held) == 0:
            break
        worst[held] = attempt(model, x[held], y[held], ball, sources(number, held))
        held = held[model(worst[held]).argmax(1) == y[held]]
    return worst


def input_gradient(model: nn.Module, x: Tensor, y: Tensor, create_graph: bool = False) -> Tensor:
    """Gradient of the summed cross-entropy with respect to the images alone; see :func:`gradient`."""
    return gradient(lambda images: F.cross_entropy(model(images), y, reduction="sum"), x, create_graph)


def gradient(loss: Callable[[Tensor], Tensor], x: Tensor, create_graph: bool = False) -> Tensor:
    """Gradient of ``loss``, a sum over images, with respect to the images alone, of the shape of ``x``.

    ``torch.autograd.grad`` computes no weight gradients: a third cheaper than ``backward()``, which would also
    set off Horovod's allreduces. A sum and not a mean, times a constant on the way back: in half precision the
    gradients of confident images would underflow. A power of two changes no bit of those that don't. Entries
    that overflow become 0, lest they poison the perturbation. ``create_graph``: the result can be differentiated with
    respect to the weights.
    """
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        (scaled,) = torch.autograd.grad(_SCALE * loss(x), x, create_graph=create_graph)
        return scaled.nan_to_num(0, 0, 0) / _SCALE


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """Largest wrong logit minus the true one, shape (n,): positive only where an image is misclassified."""
    true = logits.gather(1, y[:, None]).squeeze(1)
    wrong = logits.scatter(1, y[:, None], -torch.inf).amax(1)
    return wrong - true
