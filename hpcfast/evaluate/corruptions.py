"""Accuracy under common corruptions: of ImageNet-C, or of what ``hpcfast data corrupt`` writes."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import torch
from torch import nn

from hpcfast import comm
from hpcfast.comm import World
from hpcfast.config import RunConfig
from hpcfast.data import skips
from hpcfast.data.classes import match
from hpcfast.data.corrupt import MANIFEST
from hpcfast.data.corruptions import SEVERITIES
from hpcfast.data.folder import Split, read_split
from hpcfast.errors import UserError
from hpcfast.evaluate import classify, refuse_not_finite, shared_out
from hpcfast.evaluate.freeze import frozen, full_precision
from hpcfast.evaluate.outcomes import NOT_FINITE
from hpcfast.evaluate.results import interval


class Part(NamedTuple):
    """The images of one corruption at one severity."""

    corruption: str
    severity: int
    folder: Path


def measure(
    model: nn.Module,
    folder: Path,
    classes: tuple[str, ...],
    config: RunConfig,
    world: World,
    progress: Callable[[int], None] = lambda done: None,
) -> dict[str, Any]:
    """Measure clean accuracy on every ``folder/<corruption>/<severity>``; a collective of all ranks.

    Published images are cropped already and are only resized to the network's size, as in ImageNet-C's own test; ours
    are as the originals and are cropped as those are.

    Args:
        classes: of the model, in its order; the class folders of every part must be some of them, everywhere the same.
        config: of which the data settings and ``evaluation.batch_size`` count here.
        progress: called after each batch, equally often on all ranks, with the images done by all ranks as far as
            this one can tell.

    Returns:
        ``mean`` (accuracy over all images), ``rows`` (``corruption``, ``severity``, ``accuracy``, ``ci95`` (Wilson),
        ``n``), ``by_corruption`` (mean over its severities) and ``said`` (what a person should know of the classes,
        sentences). Not divided by AlexNet's errors, as the paper's mCE is.

    Raises:
        UserError: ``folder`` is missing, has no severities, an unknown class or an empty one, or too many bad images;
            or the model gives logits that are not finite.
    """
    parts = comm.together(lambda: find(folder))
    if not comm.on_root((folder / MANIFEST).is_file):
        config = config.model_copy(update={"data": config.data.model_copy(update={"augment": "none"})})
    still = frozen(model, torch.rand(2, config.data.channels, config.data.size, config.data.size).to(world.device))
    rights: list[int] = []
    counts: list[int] = []
    for part in parts:
        split, said = comm.together(partial(_read, part, classes))
        right, n = _right(still, split, config, world, sum(counts), progress)
        rights.append(right)
        counts.append(n)
    rows: list[dict[str, Any]] = [
        {"corruption": name, "severity": severity, "accuracy": right / n, "ci95": interval(right, n), "n": n}
        for (name, severity, _), right, n in zip(parts, rights, counts, strict=True)
    ]
    means = {name: fmean(row["accuracy"] for row in rows if row["corruption"] == name) for name, *_ in parts}
    return {"mean": sum(rights) / sum(counts), "rows": rows, "by_corruption": means, "said": said}


def _read(part: Part, classes: tuple[str, ...]) -> tuple[Split, list[str]]:
    return match(read_split(part.folder, "--corruptions"), classes, "the model")


def find(folder: Path) -> list[Part]:
    """All parts in ``folder``, by name and severity.

    Raises:
        UserError: it is missing, a folder in it has no severities, or not all parts have the same class folders.
    """
    if not folder.is_dir():
        raise UserError(f"--corruptions: no folder {folder}; make one with 'hpcfast data corrupt'")
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    parts = [Part(name, severity, folder / name / str(severity)) for name in names for severity in SEVERITIES]
    parts = [part for part in parts if part.folder.is_dir()]
    bare = sorted({*names} - {part.corruption for part in parts})
    if bare or not parts:
        raise UserError(
            f"--corruptions {folder}: no folder 1, 2, 3, 4 or 5 (severities) in {', '.join(bare[:5]) or 'it'}. "
            f"It must hold folders CORRUPTION/SEVERITY/CLASS, as 'hpcfast data corrupt' writes, and no others."
        )
    for part in parts:
        if odd := sorted(_folders(part.folder) ^ _folders(parts[0].folder)):
            raise UserError(
                f"--corruptions: {part.folder} and {parts[0].folder} must have the same classes; only in one of them: "
                f"{', '.join(odd[:5])}. Add the missing class folders or remove the surplus ones."
            )
    return parts


def _folders(part: Path) -> set[str]:
    return {entry.name for entry in part.iterdir() if entry.is_dir()}


def _right(
    model: nn.Module, split: Split, config: RunConfig, world: World, before: int, progress: Callable[[int], None]
) -> tuple[int, int]:
    """How many images of ``split`` all ranks together find classified rightly, and how many they could read."""
    right, done = 0, 0
    odd = [torch.empty(0, dtype=torch.int64)]
    faults: dict[int, str] = {}
    with full_precision():
        for x, y, ids in shared_out(split, split.good, config, world, faults):
            if len(ids):
                found = classify(model, x)
                right += int((found == y).sum())
                odd.append(ids.where(found == NOT_FINITE, -1))
            done += len(ids)
            progress(before + min(done * world.size, len(split)))  # the others are about as far
    gathered = comm.gather((faults, [image for images in odd for image in images.tolist() if image >= 0]))
    refuse_not_finite(split, [image for _, images in gathered for image in images])
    bad = {image: fault for each, _ in gathered for image, fault in each.items()}
    skips.refuse_many(split, bad, len(split))
    return int(comm.total(torch.tensor(right))), len(split) - len(bad)
