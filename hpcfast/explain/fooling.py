"""A picture of what fools each model: the nearest images, of those that PGD finds, that it misclassifies."""

from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from hpcfast.attacks import rng
from hpcfast.attacks.pgd import Pgd
from hpcfast.config import RunConfig, read_run
from hpcfast.data import dali, skips
from hpcfast.data.classes import match
from hpcfast.data.reader import read_splits
from hpcfast.data.split import spread
from hpcfast.errors import UserError
from hpcfast.evaluation.sharding import good_batches
from hpcfast.explain.figure import about_half
from hpcfast.models import saved
from hpcfast.runs import plot
from hpcfast.runs.directory import RunDirectory
from hpcfast.runs.names import in_figure

IMAGES = 4
SHORT = 18
"""Characters that a name may have in a title."""
RADII = np.geomspace(0.05, 8, 24)
"""Tried in turn for the picture, in multiples of the threat model's eps."""


def picture(runs: list[RunDirectory], path: Path) -> None:
    """Draw validation images and, for each run, the nearest images (of those PGD finds) that fool it.

    Raises:
        UserError: there are no runs, they were not trained on the same data, or no image is correct for all.
    """
    if not runs:
        raise UserError("a picture needs a finished run")
    configs = [read_run(run) for run in runs]
    if len({(c.data.path, c.data.size, c.data.channels, c.threat.norm) for c in configs}) > 1:
        raise UserError(f"{', '.join(str(run.path) for run in runs)}: a picture needs runs of the same data and norm")
    loaded = [saved.load(run, config.model) for run, config in zip(runs, configs, strict=True)]
    models, classes = [model for model, _ in loaded], loaded[0][1]
    if odd := [str(run.path) for run, (_, names) in zip(runs, loaded, strict=True) if names != classes]:
        raise UserError(f"{', '.join(odd)}: other classes than {runs[0].path}; a picture needs runs of the same data")
    x, y = _all_correct(configs[0], models, classes)
    fooled = [fool(model, x, y, config) for model, config in zip(models, configs, strict=True)]
    _draw(path, x, y, [run.path.name for run in runs], fooled, classes, configs[0].threat.norm)


def fool(model: nn.Module, x: Tensor, y: Tensor, config: RunConfig) -> tuple[Tensor, Tensor, Tensor]:
    """Search ever larger balls for images that ``model`` misclassifies, with PGD-10.

    Returns:
        Images of the shape of ``x``; their predicted classes, shape (n,); their distance from ``x`` in
        the threat model's norm, shape (n,). An image that nothing fools stays as it was in the largest ball.
    """
    attack = Pgd(name="pgd", steps=10)
    found = x.clone()
    for radius in RADII:
        rows = (model(found).argmax(1) == y).nonzero().squeeze(1)
        if len(rows) == 0:
            break
        ball = config.threat.model_copy(update={"eps": config.threat.eps * radius}).ball
        found[rows] = attack.perturb(model, x[rows], y[rows], ball, rng.per_image(config.seed, rows))
    return found, model(found).argmax(1), config.threat.ball.length(found - x)


def _all_correct(config: RunConfig, models: list[nn.Module], classes: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    split, _ = match(read_splits(config.data.path, config.data.skips)[1], classes, "the runs' models")
    shard = dali.Shard(0, 1, torch.device("cpu"), 1)
    faults: dict[int, str] = {}
    batch = next(good_batches(split, split.evenly(64), config.data, shard, 64, faults), None)
    if faults:
        print(f"left out of the picture: {skips.described(split, faults)}")
    if batch is None:
        raise UserError(f"{split.root}: no image of 64 can be read; 'hpcfast data verify' lists the bad ones")
    x, y, _ = batch
    correct = torch.stack([model(x).argmax(1) == y for model in models]).all(0).nonzero().squeeze(1)
    if len(correct) == 0:
        raise UserError(
            f"{config.data.path}: none of 64 images is classified correctly by all runs, so there is nothing to draw"
        )
    chosen = correct[torch.as_tensor(spread(len(correct), IMAGES))]
    return x[chosen], y[chosen]


def _draw(
    path: Path,
    x: Tensor,
    y: Tensor,
    names: list[str],
    fooled: list[tuple[Tensor, Tensor, Tensor]],
    classes: tuple[str, ...],
    norm: str,
) -> None:
    rows = []
    for row in range(len(x)):
        images = [plot.Image(x[row].numpy(), f"clean: {in_figure(classes[y[row]], SHORT)}")]
        for name, (found, predicted, distance) in zip(names, fooled, strict=True):
            title = f"{in_figure(name, SHORT)} predicts: {in_figure(classes[predicted[row]], SHORT)}"
            change = about_half(found[row] - x[row], shown=1)
            images.append(plot.Image(found[row].numpy(), title))
            images.append(plot.Image(change.numpy(), f"change, {norm} {distance[row]:.2f}"))
        rows.append(images)

    def figure() -> Figure:
        figure = Figure(figsize=(2.1 * len(rows[0]), 2.35 * len(rows)))
        plot.grid(figure, rows)
        figure.suptitle("What it takes to fool each model (changes magnified)", fontsize=13)
        figure.tight_layout()
        return figure

    plot.save(path, figure, dpi=110)
