"""What finished runs have learnt, side by side: a picture, and how near it is to what people see, in numbers.

Robust networks keep features that people recognise (Tsipras et al. 2019; Engstrom et al. 2019); fast training does
too (Goodwin, Brown, Helus 2020). ``hpcfast explain RUN RUN`` shows it: :mod:`~hpcfast.explain.features` is the
mathematics, :mod:`~hpcfast.explain.figure` the picture.
"""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import timm
import torch
from torch import Tensor, nn

import hpcfast
from hpcfast import config
from hpcfast.attacks.norms import Threat
from hpcfast.config import RunConfig
from hpcfast.data import Batch, feed, skips
from hpcfast.data.reader import read_splits
from hpcfast.data.split import Split
from hpcfast.distributed import comm
from hpcfast.distributed.comm import World
from hpcfast.errors import UserError
from hpcfast.evaluation import Pieces, batch_size, shared_out
from hpcfast.evaluation.freeze import full_precision
from hpcfast.explain import features, figure
from hpcfast.models import saved
from hpcfast.runs import files
from hpcfast.runs.directory import RunDirectory
from hpcfast.runs.progress import Reporter

IMAGES = 500
"""Validation images to measure by default, if there are so many."""
FAR = 6
"""How far images are pushed towards another class, in multiples of the threat model's eps."""


class Finished(NamedTuple):
    """A run to explain."""

    run: RunDirectory
    config: RunConfig
    model: nn.Module


def load(runs: Sequence[RunDirectory], overrides: list[str], world: World) -> tuple[list[Finished], Split]:
    """Load ``runs``, their models in eval mode on the rank's device, and list the validation images that they share.

    UserError if a run is unfinished or damaged, or the runs' data differ.
    """
    found, classes = [], set()
    for run in runs:
        settings = config.read_run(run, overrides)
        model, names = saved.load(run, settings.model)
        classes.add(names)
        found.append(Finished(run, settings, model.to(world.device)))
    data = {(each.config.data.path, each.config.data.size, each.config.data.channels) for each in found}
    if len(data) > 1:
        given = "; ".join(f"{path}, {channels} x {size} x {size}" for path, size, channels in sorted(data))
        raise UserError(f"runs of different data ({given}) cannot be compared; explain each kind by itself")
    val = read_splits(found[0].config.data.path, found[0].config.data.skips)[1]
    if classes != {val.classes}:
        raise UserError(
            f"{val.root} does not have the classes of all runs: {', '.join(val.classes[:5])} …, not "
            f"{', '.join((classes - {val.classes}).pop()[:5])} …; set data.path= to the data set of the runs"
        )
    return found, val


def chosen(val: Split, images: int | None, world: World) -> np.ndarray:
    """Ids of the validation images to measure, evenly spread: ``images`` of them, by default up to ``IMAGES``.

    UserError if there are not so many, or too few for an interval or for the ranks.
    """
    good, least = len(val.good), max(2, world.size)
    n = min(IMAGES, good) if images is None else images
    if not least <= n <= good:
        raise UserError(f"--images {n}: of {good} in {val.root}, measure {least} or more; each rank needs one")
    return val.evenly(n)


def explain(
    runs: list[Finished], val: Split, ids: np.ndarray, world: World, reporter: Reporter
) -> tuple[list[dict[str, Any]], Path]:
    """Measure and picture ``runs`` at the validation images ``ids``; a collective of all ranks.

    Returns:
        What each run's ``explain.json`` now holds, and the picture, in the last run's ``figures/``. Bad images are
        left out and named: ``n`` counts the others.

    Raises:
        UserError: a file cannot be written, too many images are bad, or a network has no representation.
    """
    task, models = reporter.task("alignment", len(ids), "images"), [each.model for each in runs]
    numbers, right, ids, faults = measure(models, val, ids, runs[0].config, world, task.update)
    task.close()
    skips.refuse_many(val, faults, len(val))
    if faults:
        reporter.say(f"left out: {skips.described(val, faults)}")
    versions = {"hpcfast": hpcfast.__version__, "torch": torch.__version__, "timm": timm.__version__}
    results = [{"alignment": {"image": summary(each)}, "n": len(ids), "versions": versions} for each in numbers]
    picture = runs[-1].run.figures / "explain.png"

    def finish() -> None:
        try:
            _draw(picture, runs, val, ids[figure.choose(val.labels[ids], right)], world, reporter)
            for each, result in zip(runs, results, strict=True):
                files.save_text(each.run.explain, json.dumps(result, indent=1) + "\n")
        except OSError as error:
            raise UserError(f"cannot write ({error}); copy the runs to a folder you may write") from None

    comm.on_root(finish)
    return results, picture


def measure(
    models: Sequence[nn.Module],
    val: Split,
    ids: np.ndarray,
    config: RunConfig,
    world: World,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[int, str]]:
    """Measure each of ``models`` at the images ``ids`` of ``val``, as they are; a collective of all ranks.

    Every image that can be read counts, also a misclassified one: so all models are measured on the same images.

    Args:
        config: of which the data settings and the batch size count here.
        progress: called after each batch with the images done by all ranks, as far as this one can tell.

    Returns:
        :func:`features.alignment` (models, n), float32, and whether images are classified correctly (models, n), bool,
        in the order of ``ids``; the ids of these images, shape (n,); and what is wrong with the others, by id.

    Raises:
        UserError: fewer than two images can be read.
    """
    found: dict[int, list[list[Any]]] = {}
    bad: dict[int, str] = {}

    def rows(batch: Batch) -> None:
        with full_precision(), torch.no_grad():
            near = torch.stack([features.alignment(model, batch.x, batch.y) for model in models], 1)
            right = torch.stack([model(batch.x).argmax(1) == batch.y for model in models], 1)
        for image, *row in zip(batch.ids.tolist(), near.tolist(), right.tolist(), strict=True):
            found[image] = row

    pieces = Pieces(batch_size(models, config, world))
    for batch in shared_out(val, ids, pieces.most, config, world, bad):
        pieces.each(rows, batch)
        progress(min(len(found) * world.size, len(ids)))  # the others are about as far
    for rows_there, bad_there in comm.gather((found, bad)):
        found |= rows_there
        bad |= bad_there
    good = [image for image in ids.tolist() if image in found]
    if len(good) < 2:
        raise UserError(
            f"{val.root}: {len(good)} of {len(ids)} images can be read; 'hpcfast data verify' lists the bad"
        )
    numbers, right = zip(*(found[image] for image in good), strict=True)
    return np.array(numbers, np.float32).T, np.array(right).T, np.array(good), bad


def summary(numbers: np.ndarray) -> dict[str, Any]:
    """The mean of one run's ``numbers`` (n,), n > 1, a normal 95 % interval of the mean, and n."""
    mean, n = float(numbers.mean(dtype=np.float64)), len(numbers)
    half = 1.959964 * float(numbers.std(ddof=1, dtype=np.float64)) / n**0.5
    return {"mean": mean, "ci95": [mean - half, mean + half], "n": n}


def _draw(path: Path, runs: list[Finished], val: Split, ids: np.ndarray, world: World, reporter: Reporter) -> None:
    """Draw the validation images ``ids`` and what each model makes of them."""
    data = runs[-1].config.data
    here = feed.Shard(0, 1, world.device, data.threads or world.threads)
    x, y, _ = next(feed.batches(val, ids, data, here, len(ids), None))
    radius = FAR * max(reach(each.config.threat, x) for each in runs)
    task = reporter.task("picture", len(runs), "runs")
    columns = []
    for each in runs:
        columns.append((each.run.path.resolve().name, figure.panels(each.model, x, y, radius)))
        task.update(len(columns))
    task.close()
    figure.draw(path, columns, [val.classes[label] for label in y.tolist()])


def reach(threat: Threat, x: Tensor) -> float:
    """Radius (pixels) of the smallest Euclidean ball that holds the threat model's, for images like ``x``."""
    return threat.eps * math.sqrt(x[0].numel()) if threat.norm == "Linf" else threat.eps
