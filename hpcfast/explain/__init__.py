"""What finished runs have learnt, side by side: a picture, and how near it is to what people see, in numbers.

Robust networks keep features that people recognise (Tsipras et al. 2019; Engstrom et al. 2019); fast training does
too (Goodwin, Brown, Helus 2020). ``hpcfast explain RUN RUN`` shows it: :mod:`~hpcfast.explain.features` is the
mathematics, :mod:`~hpcfast.explain.alignment` the numbers, :mod:`~hpcfast.explain.figure` the picture.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from torch import Tensor, nn

import hpcfast
from hpcfast import config
from hpcfast.attacks.norms import Threat
from hpcfast.config import RunConfig
from hpcfast.data import dali, skips
from hpcfast.data.reader import read_splits
from hpcfast.data.split import Split
from hpcfast.distributed import comm
from hpcfast.distributed.comm import World
from hpcfast.errors import UserError
from hpcfast.explain import alignment, figure
from hpcfast.models import saved
from hpcfast.runs import files
from hpcfast.runs.directory import RunDirectory
from hpcfast.runs.progress import Reporter

IMAGES = 500
"""Validation images to measure by default, if there are so many."""

FAR = 6
"""How far images are pushed towards another class, in multiples of the threat model's eps."""


@dataclass(frozen=True)
class Finished:
    """A run to explain."""

    run: RunDirectory
    config: RunConfig
    model: nn.Module


def load(runs: Sequence[RunDirectory], overrides: list[str], world: World) -> tuple[list[Finished], Split, Split]:
    """Load ``runs`` and list the images of the data set that they share.

    Returns:
        The runs, their models in eval mode on the rank's device; training and validation images.

    Raises:
        UserError: a run is unfinished or damaged, has no representation, or the runs' data differ.
    """
    subjects, classes = [], set()
    for run in runs:
        settings = config.read_run(run, overrides)
        model, names = saved.load(run, settings.model)
        if not any(isinstance(module, nn.Linear) for module in model.modules()):
            raise UserError(f"{run.path}: {settings.model.name} has no linear layer, whose input could be inverted")
        classes.add(names)
        subjects.append(Finished(run, settings, model.to(world.device)))
    data = {(s.config.data.path, s.config.data.size, s.config.data.channels) for s in subjects}
    if len(data) > 1:
        given = "; ".join(f"{path}, {channels} x {size} x {size}" for path, size, channels in sorted(data))
        raise UserError(f"runs of different data ({given}) cannot be compared; explain each kind by itself")
    train, val = read_splits(subjects[0].config.data.path, subjects[0].config.data.skips)
    if classes != {val.classes}:
        raise UserError(
            f"{val.root} does not have the classes of all runs: {', '.join(val.classes[:5])} …, not "
            f"{', '.join((classes - {val.classes}).pop()[:5])} …; set data.path= to the data set of the runs"
        )
    return subjects, train, val


def chosen(val: Split, images: int | None, world: World) -> np.ndarray:
    """Ids of the validation images to measure, evenly spread: ``images`` of them, by default up to ``IMAGES``.

    Raises:
        UserError: there are not so many, or too few for an interval or for the ranks.
    """
    good, least = len(val.good), max(2, world.size)
    n = min(IMAGES, good) if images is None else images
    if not least <= n <= good:
        raise UserError(f"--images {n}: {val.root} and {world.size} ranks allow {least} to {good}")
    return val.evenly(n)


def explain(
    subjects: list[Finished], train: Split, val: Split, ids: np.ndarray, world: World, reporter: Reporter
) -> list[dict[str, Any]]:
    """Measure and picture ``subjects`` at the images ``ids`` of ``val``; a collective of all ranks.

    Writes each run's ``explain.json``, and the picture into the last run's ``figures/``.

    Returns:
        What each run's ``explain.json`` holds. Bad images are left out and named: ``n`` counts the others.

    Raises:
        UserError: a file cannot be written, or too many images are bad.
    """
    first, last = subjects[0].config, subjects[-1]
    task = reporter.task("alignment", len(ids), "images")
    bad: tuple[dict[int, str], dict[int, str]] = ({}, {})
    means = alignment.class_means(train, first, world, bad[0])
    models = [subject.model for subject in subjects]
    numbers, right, ids = alignment.measure(models, val, ids, means, first, world, task.update, bad[1])
    task.close()
    for split, own in zip((train, val), bad, strict=True):
        faults = {image: fault for each in comm.gather(own) for image, fault in each.items()}
        skips.refuse_many(split, faults, len(split))
        if faults:
            reporter.say(f"left out: {skips.described(split, faults)}")
    results = [
        {
            "alignment": alignment.summary(rows),
            "seed": last.config.seed,
            "n": len(ids),
            "versions": {"hpcfast": hpcfast.__version__, "torch": torch.__version__, "timm": timm.__version__},
        }
        for rows in numbers
    ]

    def finish() -> None:
        pictured = ids[figure.choose(val.labels[ids], right)]
        try:
            _picture(subjects, val, pictured, means.mean(0), world, reporter)
            for subject, result in zip(subjects, results, strict=True):
                files.save_text(subject.run.path / "explain.json", json.dumps(result, indent=1) + "\n")
        except OSError as error:
            raise UserError(f"cannot write ({error}); copy the runs to a folder you may write") from None

    comm.on_root(finish)
    return results


def picture(subjects: list[Finished]) -> Path:
    """Where the picture of ``subjects`` is."""
    return subjects[-1].run.figures / "explain.png"


def _picture(
    subjects: list[Finished], val: Split, ids: np.ndarray, mean: Tensor, world: World, reporter: Reporter
) -> None:
    """Draw the images ``ids`` and what each model makes of them; all start from the same images and noise."""
    settings = subjects[-1].config
    here = dali.Shard(0, 1, world.device, settings.data.threads or world.threads)
    x, y, _ = next(dali.batches(val, ids, settings.data, here, len(ids), None))
    blur = figure.blurred(mean, len(ids), settings.seed)
    radius = FAR * max(reach(subject.config.threat, x) for subject in subjects)
    task = reporter.task("picture", len(subjects), "runs")
    columns = []
    for subject in subjects:
        columns.append((subject.run.path.resolve().name, figure.panels(subject.model, x, y, blur, radius)))
        task.update(len(columns))
    task.close()
    figure.draw(picture(subjects), columns, [val.classes[label] for label in y.tolist()])


def reach(threat: Threat, x: Tensor) -> float:
    """Radius (pixels) of the smallest Euclidean ball that holds the threat model's, for images like ``x``."""
    return threat.eps * math.sqrt(x[0].numel()) if threat.norm == "Linf" else threat.eps
