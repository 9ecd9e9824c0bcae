"""How near a network's gradient is to what people see, in numbers, exact over any number of ranks.

Every image counts, also a misclassified one: so all runs are measured on the same images, as they are.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hpcfast.attacks.norms import L2
from hpcfast.config import RunConfig
from hpcfast.data import Batch
from hpcfast.data.split import Split, spread
from hpcfast.distributed import comm
from hpcfast.distributed.comm import World
from hpcfast.errors import UserError
from hpcfast.evaluation import Pieces, batch_size, shared_out
from hpcfast.evaluation.freeze import full_precision
from hpcfast.explain import features

NAMES = ("image", "class_mean", "smoothness")
"""The columns of :func:`measures`."""

IMAGES_A_CLASS = 100
"""Training images whose mean stands for a class."""

LOW = 1 / 8
"""Cycles a pixel: a quarter of the highest frequency that an image can hold."""


def measures(model: nn.Module, x: Tensor, y: Tensor, means: Tensor) -> Tensor:
    """Measure the gradient (:func:`features.slope`) at each image.

    Args:
        x: images (n, channels, height, width), pixels in [0,1].
        y: their classes, shape (n,).
        means: mean image of each class, shape (classes, channels, height, width).

    Returns:
        Shape (n, 3): |cosine of gradient and image| (Etmann et al. 2019, "On the connection between adversarial
        robustness and saliency map interpretability"); cosine of the gradient and the way from the true class's
        mean to the likeliest wrong one's; :func:`smoothness`.
    """
    with torch.no_grad():
        rival = model(x).scatter(1, y[:, None], -torch.inf).argmax(1)
    slope = features.slope(model, x, y)
    return torch.stack((_cosine(slope, x).abs(), _cosine(slope, means[rival] - means[y]), smoothness(slope)), 1)


def smoothness(images: Tensor) -> Tensor:
    """Share of each image's spectral energy at most a quarter of the Nyquist frequency, shape (n,).

    White noise has 0.05 (the share of frequencies that are so low), a uniform image 1, a black one 0.
    """
    energy = torch.fft.fft2(_unit(images)).abs().square().sum(1)
    height, width = (torch.fft.fftfreq(size, device=images.device) for size in images.shape[2:])
    low = (height[:, None].square() + width.square()).sqrt() <= LOW
    return energy[:, low].sum(1) / energy.sum((1, 2)).clamp_min(torch.finfo(energy.dtype).tiny)


def class_means(train: Split, config: RunConfig, world: World, faults: dict[int, str] | None = None) -> Tensor:
    """Mean of ``IMAGES_A_CLASS`` training images of each class (or all), evenly spread; a collective of all ranks.

    Bad images are left out, and this rank's noted in ``faults``: what is wrong with them, by id.

    Returns:
        Shape (classes, channels, size, size), float32, on the rank's device. While they are added up they take
        eight bytes a number: 1.2 GB for ImageNet.

    Raises:
        UserError: all of these images of a class are bad.
    """
    good = train.good
    of_class = [good[train.labels[good] == label] for label in range(len(train.classes))]
    ids = np.concatenate([own[spread(len(own), IMAGES_A_CLASS)] for own in of_class])
    size = config.data.size
    sums = torch.zeros(len(of_class), config.data.channels, size, size, dtype=torch.float64)
    counts = torch.zeros(len(of_class), dtype=torch.float64)
    for x, y, _ in shared_out(train, ids, batch_size([], config, world), config, world, faults):
        sums.index_add_(0, y.cpu(), x.double().cpu())
        counts += y.cpu().bincount(minlength=len(of_class))
    counts = comm.total(counts)
    if not counts.all():
        raise UserError(
            f"{train.root}: no image of class {train.classes[int(counts.argmin())]} can be read; find the bad ones "
            f"with 'hpcfast data verify' and put whole images there"
        )
    return (comm.total(sums) / counts.view(-1, 1, 1, 1)).float().to(world.device)


def measure(
    models: Sequence[nn.Module],
    val: Split,
    ids: np.ndarray,
    means: Tensor,
    config: RunConfig,
    world: World,
    progress: Callable[[int], None] = lambda done: None,
    faults: dict[int, str] | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Measure each of ``models`` at the images ``ids`` of ``val``; a collective of all ranks.

    Bad images are left out.

    Args:
        config: of which the data settings and the batch size count here.
        progress: called after each batch with the number of images done by all ranks, as far as this one can tell.
        faults: where this rank notes what is wrong with bad images, by id.

    Returns:
        For each model and image, in the order of ``ids``: the numbers (models, n, 3), float32, and whether the
        image is classified correctly (models, n), bool; and the ids of these images, shape (n,).

    Raises:
        UserError: fewer than two images can be read.
    """
    found: dict[int, np.ndarray] = {}

    def rows(batch: Batch) -> dict[int, np.ndarray]:
        with full_precision():
            measured = torch.stack([_row(model, batch.x, batch.y, means) for model in models], 1)
        return dict(zip(batch.ids.tolist(), measured.cpu().numpy(), strict=True))

    pieces = Pieces(batch_size(models, config, world))
    for batch in shared_out(val, ids, pieces.most, config, world, faults):
        for part in pieces.each(rows, batch):
            found.update(part)
        progress(min(len(found) * world.size, len(ids)))  # the others are about as far
    everyone = {image: row for share in comm.gather(found) for image, row in share.items()}
    good = [image for image in ids.tolist() if image in everyone]
    if len(good) < 2:
        raise UserError(
            f"{val.root}: {len(good)} of {len(ids)} images can be read; 'hpcfast data verify' lists the bad"
        )
    ordered = np.stack([everyone[image] for image in good], 1)
    return ordered[..., :-1], ordered[..., -1] > 0, np.array(good)


def summary(numbers: np.ndarray) -> dict[str, Any]:
    """For each of ``NAMES`` its mean over images, a normal 95 % interval of the mean, and how many images.

    Args:
        numbers: one run's, shape (n, 3), of at least two images.
    """
    n = len(numbers)
    half = 1.959964 * numbers.std(0, ddof=1, dtype=np.float64) / np.sqrt(n)
    means = numbers.mean(0, dtype=np.float64)
    return {
        name: {"mean": float(mean), "ci95": [float(mean - h), float(mean + h)], "n": n}
        for name, mean, h in zip(NAMES, means, half, strict=True)
    }


def _row(model: nn.Module, x: Tensor, y: Tensor, means: Tensor) -> Tensor:
    with torch.no_grad():
        right = model(x).argmax(1) == y
    return torch.cat((measures(model, x, y, means), right[:, None].float()), 1)


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    """Of each row, shape (n,); 0 where one of them is 0."""
    return (_unit(a) * _unit(b)).flatten(1).sum(1)


def _unit(images: Tensor) -> Tensor:
    """Each image at length 1, also one so faint that its squares vanish; a black one stays black."""
    return L2(1).normalise(images)
