"""A picture of what fools each model: the nearest images, of those that PGD finds, that it misclassifies."""

from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from hpcfast.attacks import rng
from hpcfast.attacks.pgd import Pgd
from hpcfast.config import RunConfig
from hpcfast.data import feed, skips
from hpcfast.data.split import Split, spread
from hpcfast.distributed.comm import World
from hpcfast.errors import UserError
from hpcfast.evaluation.batches import good_batches
from hpcfast.explain import Finished, load
from hpcfast.runs import plot
from hpcfast.runs.directory import RunDirectory
from hpcfast.runs.names import in_figure

IMAGES = 4
SHORT = 18
"""Characters that a name may have in a title."""
FACTORS = (1, 2, 3, 5, 10, 20, 30, 50, 100, 200, 500, 1000)
"""By one of these all changes of a picture are magnified: people compare them, and can tell how faint they are."""
RADII = np.geomspace(0.05, 8, 24)
"""Tried in turn for the picture, in multiples of the threat model's eps."""

Fooled = tuple[Tensor, Tensor, Tensor]
"""Images, shape (n, channels, height, width); what each is taken for and its distance, shape (n,)."""


def picture(runs: list[RunDirectory], path: Path) -> None:
    """Draw validation images and, for each run, the nearest images (of those PGD finds) that fool it.

    Raises:
        UserError: there are no runs, they are of different data or norms, or no image is correct for all.
    """
    if not runs:
        raise UserError("a picture needs a finished run")
    loaded, val = load(runs, [], World(0, 1, 0, 1))
    norms = {each.config.threat.norm for each in loaded}
    if len(norms) > 1:
        raise UserError(f"{', '.join(str(run.path) for run in runs)}: a picture needs runs of the same norm")
    x, y = all_correct(loaded, val)
    fooled = [(each.run.path.name, fool(each.model, x, y, each.config)) for each in loaded]
    draw(path, x, y, fooled, val.classes, norms.pop())


def fool(model: nn.Module, x: Tensor, y: Tensor, config: RunConfig) -> Fooled:
    """Search ever larger balls for images that ``model`` misclassifies, with PGD-10; distances are in the ball's norm.

    An image that nothing fools stays as it was in the largest ball.
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


def all_correct(runs: list[Finished], val: Split) -> tuple[Tensor, Tensor]:
    """Up to ``IMAGES`` of 64 validation images that every model classifies correctly, and their classes."""
    faults = dict[int, str]()
    shard = feed.Shard(0, 1, next(runs[0].model.parameters()).device, 1)
    batch = next(good_batches(val, val.evenly(64), runs[0].config.data, shard, 64, faults), None)
    if faults:
        print(f"left out of the picture: {skips.described(val, faults)}")
    if batch is None:
        raise UserError(f"{val.root}: no image of 64 can be read; 'hpcfast data verify' lists the bad ones")
    correct = torch.stack([each.model(batch.x).argmax(1) == batch.y for each in runs]).all(0).nonzero()
    if len(correct) == 0:
        raise UserError(f"{val.root}: none of 64 images is classified correctly by all runs: nothing to draw")
    rows = correct.squeeze(1)[torch.as_tensor(spread(len(correct), IMAGES))]
    return batch.x[rows], batch.y[rows]


def magnified(changes: list[Tensor]) -> int:
    """How many times as large all ``changes`` are shown; the largest hundredth of all may be cut off."""
    most = torch.cat([change.abs().flatten() for change in changes]).sort().values
    return max((factor for factor in FACTORS if factor * most[int(0.99 * (len(most) - 1))] <= 0.5), default=1)


def draw(
    path: Path, x: Tensor, y: Tensor, fooled: list[tuple[str, Fooled]], classes: tuple[str, ...], norm: str
) -> None:
    """Draw a row for each image of ``x``: the image, and for each run, by name, what fools it and the change."""
    factor = magnified([found - x for _, (found, *_) in fooled])
    rows = []
    for row, image in enumerate(x.cpu()):
        images = [plot.Image(image.numpy(), f"clean: {in_figure(classes[y[row]], SHORT)}")]
        for name, (found, predicted, distance) in fooled:
            other = found[row].cpu()
            title = f"{in_figure(name, SHORT)} predicts: {in_figure(classes[predicted[row]], SHORT)}"
            change = (0.5 + factor * (other - image)).clamp(0, 1).numpy()
            images += [plot.Image(other.numpy(), title), plot.Image(change, f"change, {norm} {distance[row]:.2f}")]
        rows.append(images)

    def figure() -> Figure:
        figure = Figure(figsize=(2.1 * len(rows[0]), 2.35 * len(rows)))
        plot.grid(figure, rows)
        shown = f"changes shown x{factor}, grey: none" if factor > 1 else "changes: grey is none"
        figure.suptitle(f"What it takes to fool each model ({shown})", fontsize=13)
        figure.tight_layout()
        return figure

    plot.save(path, figure, dpi=110)
