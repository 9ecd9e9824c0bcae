"""Norm balls: the perturbations a threat model allows.

A ball is three functions over the rows of a batch: a random point, the steepest direction, the projection.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import BeforeValidator, PositiveFloat
from torch import Tensor

from hpcfast.attacks import rng
from hpcfast.attacks.rng import Source
from hpcfast.component import Settings

_TINY = torch.finfo(torch.float32).tiny


def number(value: Any) -> Any:
    """Read ``8/255`` as a number; leave everything else to the validator that follows."""
    try:
        above, below = map(float, value.split("/"))
        return above / below
    except (AttributeError, TypeError, ValueError, ZeroDivisionError):
        return value


Pixels = Annotated[PositiveFloat, BeforeValidator(number)]
"""A positive length in pixel units, where pixels lie in [0,1]; a fraction such as ``8/255`` is a number."""


class Ball(ABC):
    """All perturbations delta with ``‖delta‖ <= eps``, each image for itself."""

    eps: Any
    """A float; a tensor (n, 1, 1, 1) where each image has a radius of its own."""

    def __init__(self, eps: float) -> None:
        self.eps = eps

    @abstractmethod
    def random(self, x: Tensor, source: Source) -> Tensor:
        """A random point of the ball for each image of ``x``; same shape, float32."""

    def noise(self, x: Tensor, source: Source) -> Tensor:
        """Directionless noise of about the ball's size, for each image of ``x``; same shape, float32."""
        return self.random(x, source)

    @abstractmethod
    def normalise(self, gradient: Tensor) -> Tensor:
        """The unit step that climbs fastest along ``gradient``; same shape, float32. Zero stays zero."""

    @abstractmethod
    def project(self, delta: Tensor) -> Tensor:
        """The nearest point of the ball to ``delta``."""

    @abstractmethod
    def length(self, delta: Tensor) -> Tensor:
        """How long each perturbation of ``delta`` is, in this norm; pixels, shape (n,), right to 1e-18."""

    def start(self, x: Tensor, source: Source) -> Tensor:
        """A random start for images ``x`` that leaves pixels in [0,1]."""
        return (x + self.random(x, source)).clamp(0, 1) - x

    def move(self, x: Tensor, delta: Tensor, gradient: Tensor, alpha: float | Tensor) -> Tensor:
        """Step ``alpha`` (pixels) from ``delta`` up the gradient, back into the ball, then into [0,1].

        Clamping pixels brings each coordinate nearer to ``x``, so the result is still in the ball.
        """
        delta = self.project(delta + alpha * self.climb(x, delta, gradient))
        return (x + delta).clamp(0, 1) - x

    def climb(self, x: Tensor, delta: Tensor | float, gradient: Tensor) -> Tensor:
        """The unit step from ``x + delta``, whose pixels lie in [0,1], up the ``gradient``; same shape, float32."""
        return self.normalise(gradient)


class Linf(Ball):
    """No pixel changes by more than eps. Start: uniform in the cube (Wong, Rice, Kolter 2020, algorithm 3)."""

    def random(self, x: Tensor, source: Source) -> Tensor:
        return self.eps * (2 * rng.uniform(x, source) - 1)

    def normalise(self, gradient: Tensor) -> Tensor:
        return gradient.float().sign()

    def project(self, delta: Tensor) -> Tensor:
        return delta.clamp(-self.eps, self.eps)

    def length(self, delta: Tensor) -> Tensor:
        return delta.flatten(1).abs().amax(1)


class L2(Ball):
    """Each image's Euclidean distance is at most eps.

    Start: a random direction with a uniformly random radius, as published for the Euclidean form of fast
    adversarial training (Goodwin, Brown, Helus 2020).
    """

    def random(self, x: Tensor, source: Source) -> Tensor:
        direction = self.normalise(rng.normal(x, source))
        return self.eps * rng.uniform(x[:, :1, :1, :1], source) * direction

    def noise(self, x: Tensor, source: Source) -> Tensor:
        return self.eps / math.sqrt(x[0].numel()) * rng.normal(x, source)

    def normalise(self, gradient: Tensor) -> Tensor:
        # Divide by the largest entry first: the squares of small gradients would underflow in the norm.
        gradient = gradient.float()
        gradient = gradient / _per_row(gradient.abs().flatten(1).amax(1), gradient).clamp_min(_TINY)
        return gradient / _per_row(gradient.flatten(1).norm(dim=1), gradient).clamp_min(_TINY)

    def project(self, delta: Tensor) -> Tensor:
        return delta * (self.eps / _per_row(self.length(delta), delta).clamp_min(self.eps))

    def length(self, delta: Tensor) -> Tensor:
        return delta.flatten(1).norm(dim=1)


class L1(Ball):
    """The absolute changes of each image's pixels sum to at most eps.

    Steepest would be to change one pixel at a time; a step changes the hundredth of them with the largest gradients
    alike, as in SLIDE (Tramèr and Boneh 2019).
    """

    share: ClassVar[float] = 0.01

    def random(self, x: Tensor, source: Source) -> Tensor:
        sizes = -(1 - rng.uniform(x, source)).log()  # exponential: their directions are uniform on the ball's surface
        direction = sizes * (rng.uniform(x, source) - 0.5).sign()
        radius = self.eps * rng.uniform(x[:, :1, :1, :1], source)
        return direction * (radius / _per_row(self.length(direction), x).clamp_min(_TINY))

    def normalise(self, gradient: Tensor) -> Tensor:
        size = gradient.float().abs().flatten(1)
        count = max(1, round(self.share * size.shape[1]))
        steep = size >= size.topk(count).values[:, -1:]
        direction = steep.view_as(gradient) * gradient.float().sign()
        return direction / _per_row(self.length(direction), gradient).clamp_min(1)

    def climb(self, x: Tensor, delta: Tensor | float, gradient: Tensor) -> Tensor:
        at = x + delta
        # Of the few pixels that change, none may be one that can't: black or white, and to become more so.
        return self.normalise(gradient * torch.where(gradient > 0, at < 1 - 1e-6, at > 1e-6))

    def project(self, delta: Tensor) -> Tensor:
        # Duchi et al. (ICML 2008): shrink all entries by the one threshold at which the rest sums to eps.
        size = delta.abs().flatten(1).double()
        falling, ranks = size.sort(1, descending=True).values, torch.arange(1, size.shape[1] + 1, device=delta.device)
        thresholds = (falling.cumsum(1) - self.eps) / ranks
        last = (falling > thresholds).sum(1, keepdim=True) - 1
        rest = (size - thresholds.gather(1, last).clamp_min(0)).clamp_min(0)
        return delta.sign() * rest.to(delta.dtype).view_as(delta)

    def length(self, delta: Tensor) -> Tensor:
        return delta.flatten(1).abs().sum(1)


def _of_each(name: str) -> Any:
    """The method ``name`` of a :class:`RowWise`: from all balls' answers, each row's own."""

    def method(self: "RowWise", *arguments: Any) -> Tensor:
        rows = torch.arange(len(self.choice), device=self.choice.device)
        return torch.stack([getattr(ball, name)(*arguments) for ball in self.balls])[self.choice, rows]

    return method


class RowWise(Ball):
    """A ball for each image: that of ``balls`` which ``choice`` (indices, shape (n,)) says.

    All balls are worked out for all images and one is picked: a few elementwise operations, and no waiting for
    the device as sorting the rows would.
    """

    def __init__(self, balls: Sequence[Ball], choice: Tensor) -> None:
        self.balls, self.choice = balls, choice
        self.eps = torch.tensor([ball.eps for ball in balls], device=choice.device)[choice].view(-1, 1, 1, 1)

    random, noise, normalise = _of_each("random"), _of_each("noise"), _of_each("normalise")
    climb, project, length = _of_each("climb"), _of_each("project"), _of_each("length")


class Threat(Settings):
    """The threat model: the perturbations that an attack may make."""

    norm: Literal["Linf", "L2", "L1"]
    """In which a perturbation is measured."""
    eps: Pixels
    """The largest perturbation, in pixels, which lie in [0, 1]; a fraction such as ``8/255`` is a number."""

    @property
    def ball(self) -> Ball:
        balls: dict[str, type[Linf | L2 | L1]] = {"Linf": Linf, "L2": L2, "L1": L1}
        return balls[self.norm](self.eps)


def _per_row(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *[1] * (like.dim() - 1))
