"""What a network has learnt, as images: its gradient at an image, and images made to maximise a class.

Mathematics: tensors in, tensors out. Images have shape (n, channels, height, width), float32, pixels in [0,1];
classes have shape (n,), int64. Searches are in Euclidean balls, along the normalised gradient, with steps that
shrink linearly to nothing, so that a search ends at rest.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hpcfast.attacks import gradient, margin
from hpcfast.attacks.norms import L2
from hpcfast.errors import UserError

STEPS = 200


def slope(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Gradient of (logit of the likeliest wrong class - logit of the true one) with respect to ``x``.

    The loss's gradient points nearly the same way, but loses precision where the model is confident: p - 1 becomes 0.
    """
    return gradient(lambda images: margin(model(images), y).sum(), x)


def alignment(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """|Cosine of the :func:`slope` and the image|, shape (n,); 0 where one of them is 0.

    Etmann et al. 2019, "On the connection between adversarial robustness and saliency map interpretability".
    """
    unit = L2(1).normalise  # also what is so faint that its squares vanish
    return (unit(slope(model, x, y)) * unit(x)).flatten(1).sum(1).abs()


def towards(model: nn.Module, x: Tensor, y: Tensor, radius: float) -> Tensor:
    """The images within ``radius`` (pixels) of ``x`` that ``model`` predicts most confidently as class ``y``.

    A large targeted perturbation (Tsipras et al. 2019, "Robustness may be at odds with accuracy").
    """
    return descend(lambda images: F.cross_entropy(model(images), y, reduction="sum"), x, radius)


def inverted(model: nn.Module, x: Tensor, start: Tensor, radius: float) -> Tensor:
    """The images within ``radius`` (pixels) of ``start`` whose representation is nearest to that of ``x``.

    The distance is relative to the representation's length (Engstrom et al. 2019, "Adversarial robustness as a
    prior for learned representations").
    """
    with torch.no_grad():
        wanted = representation(model, x)
    lengths = wanted.norm(dim=1)

    def distance(images: Tensor) -> Tensor:
        return ((representation(model, images) - wanted).norm(dim=1) / lengths).sum()

    return descend(distance, start, radius)


def descend(loss: Callable[[Tensor], Tensor], x: Tensor, radius: float) -> Tensor:
    """Search the ball of ``radius`` (pixels) around ``x``, within [0,1], for images of small ``loss``, a sum."""
    ball, delta = L2(radius), torch.zeros_like(x)
    for step in range(STEPS):
        alpha = 4 * radius / STEPS * (1 - step / STEPS)  # all steps together: two radii, once across the ball
        delta = ball.move(x, delta, -gradient(loss, x + delta), alpha)
    return (x + delta).clamp(0, 1)


def representation(model: nn.Module, x: Tensor) -> Tensor:
    """What the last linear layer of ``model`` is given; shape (n, features)."""
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if not layers:
        raise UserError("the network has no linear layer, whose input could be inverted; explain another")
    given: list[Tensor] = []
    hook = layers[-1].register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    try:
        model(x)
    finally:
        hook.remove()
    return given[0].flatten(1)
