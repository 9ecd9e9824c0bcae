"""A picture of what fools each model: the nearest images, of those that PGD finds, that it misclassifies."""

from pathlib import Path
from typing import Any

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
from hpcfast.models import saved
from hpcfast.runs.directory import RunDirectory
from hpcfast.runs.files import write_atomically
from hpcfast.runs.names import in_figure

IMAGES = 4
TINY = torch.finfo(torch.float32).tiny
SHORT = 18
"""Characters that a name may have in a title."""
RADII = np.geomspace(0.05, 8, 24)
"""Tried in turn for the picture, in multiples of the threat model's eps."""


def picture(runs: list[RunDirectory], path: Path) -> None:
    """Draw validation images and, for each run, the nearest images (of those PGD finds) that fool it.

    Raises:
        UserError: there are no runs, they were not trained on the same data, or no image is classified rightly by all.
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
    x, y = _rightly_classified(configs[0], models, classes)
    fooled = [fool(model, x, y, config) for model, config in zip(models, configs, strict=True)]
    _draw(path, x, y, [run.path.name for run in runs], fooled, classes, configs[0].threat.norm)


def fool(model: nn.Module, x: Tensor, y: Tensor, config: RunConfig) -> tuple[Tensor, Tensor, Tensor]:
    """Search ever larger balls for images that ``model`` misclassifies, with PGD-10.

    Returns:
        Images of the shape of ``x``; what the model takes them for, shape (n,); their distance from ``x`` in
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


def _rightly_classified(config: RunConfig, models: list[nn.Module], classes: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    split, _ = match(read_splits(config.data.path, config.data.skips)[1], classes, "the runs' models")
    shard = dali.Shard(0, 1, torch.device("cpu"), 1)
    faults: dict[int, str] = {}
    batch = next(good_batches(split, split.evenly(64), config.data, shard, 64, faults), None)
    if faults:
        print(f"left out of the picture: {skips.described(split, faults)}")
    if batch is None:
        raise UserError(f"{split.root}: no image of 64 can be read; 'hpcfast data verify' lists the bad ones")
    x, y, _ = batch
    right = torch.stack([model(x).argmax(1) == y for model in models]).all(0).nonzero().squeeze(1)
    if len(right) == 0:
        raise UserError(
            f"{config.data.path}: no image of 64 is classified rightly by all runs, so none is worth a picture"
        )
    chosen = right[torch.as_tensor(spread(len(right), IMAGES))]
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
    columns = 1 + 2 * len(names)
    figure = Figure(figsize=(2.1 * columns, 2.35 * len(x)))
    axes = figure.subplots(len(x), columns, squeeze=False)
    for row in range(len(x)):
        _show(axes[row, 0], x[row], f"clean: {in_figure(classes[y[row]], SHORT)}")
        for i, (images, taken_for, distance) in enumerate(fooled):
            change = images[row] - x[row]
            magnified = 0.5 + change / (2 * change.abs().amax().clamp_min(TINY))
            title = f"{in_figure(names[i], SHORT)} sees: {in_figure(classes[taken_for[row]], SHORT)}"
            _show(axes[row, 1 + 2 * i], images[row], title)
            _show(axes[row, 2 + 2 * i], magnified, f"change, {norm} {distance[row]:.2f}")
    figure.suptitle("What it takes to fool each model (changes magnified)", fontsize=13)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda part: figure.savefig(part, format="png", dpi=110))


def _show(axes: Any, image: Tensor, title: str) -> None:
    axes.imshow(image.permute(1, 2, 0).squeeze(-1).numpy(), cmap="gray", vmin=0, vmax=1)
    axes.set_title(title, fontsize=9)
    axes.axis("off")
