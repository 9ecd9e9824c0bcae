"""How near a network's gradient is to what people see, in a number, exact over any number of ranks.

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
from hpcfast.data.split import Split
from hpcfast.distributed import comm
from hpcfast.distributed.comm import World
from hpcfast.errors import UserError
from hpcfast.evaluation import Pieces, batch_size, shared_out
from hpcfast.evaluation.freeze import full_precision
from hpcfast.explain import features


def with_image(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """|Cosine of the gradient (:func:`features.slope`) and the image|; 0 where one of them is 0.

    Etmann et al. 2019, "On the connection between adversarial robustness and saliency map interpretability".

    Args:
        x: images (n, channels, height, width), pixels in [0,1].
        y: their classes, shape (n,).

    Returns:
        Shape (n,).
    """
    unit = L2(1).normalise  # also what is so faint that its squares vanish
    return (unit(features.slope(model, x, y)) * unit(x)).flatten(1).sum(1).abs()


def measure(
    models: Sequence[nn.Module],
    val: Split,
    ids: np.ndarray,
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
        For each model and image, in the order of ``ids``: :func:`with_image` (models, n), float32, and whether the
        image is classified correctly (models, n), bool; and the ids of these images, shape (n,).

    Raises:
        UserError: fewer than two images can be read.
    """
    found: dict[int, list[list[float]]] = {}

    def rows(batch: Batch) -> dict[int, list[list[float]]]:
        with full_precision():
            measured = torch.stack([_row(model, batch.x, batch.y) for model in models], 1)
        return dict(zip(batch.ids.tolist(), measured.cpu().tolist(), strict=True))

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
    ordered = np.array([everyone[image] for image in good], np.float32).swapaxes(0, 1)
    return ordered[..., 0], ordered[..., 1] > 0, np.array(good)


def _row(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        right = model(x).argmax(1) == y
    return torch.stack((with_image(model, x, y), right.float()), 1)


def summary(numbers: np.ndarray) -> dict[str, Any]:
    """The mean over images, a normal 95 % interval of the mean, and how many images.

    Args:
        numbers: one run's, shape (n,), of at least two images.
    """
    mean, n = float(numbers.mean(dtype=np.float64)), len(numbers)
    half = 1.959964 * float(numbers.std(ddof=1, dtype=np.float64)) / n**0.5
    return {"mean": mean, "ci95": [mean - half, mean + half], "n": n}
