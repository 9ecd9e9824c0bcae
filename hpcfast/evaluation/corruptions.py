"""Accuracy under common corruptions: of ImageNet-C, or of what ``hpcfast data corrupt`` writes."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from pydantic import TypeAdapter
from torch import nn

from hpcfast.config import RunConfig
from hpcfast.data.folder import folders_in, read_split
from hpcfast.data.identity import agreed
from hpcfast.data.split import Split, match
from hpcfast.datasets.corrupt import MANIFEST
from hpcfast.datasets.corruptions import SEVERITIES
from hpcfast.distributed import comm
from hpcfast.distributed.comm import World
from hpcfast.errors import UserError
from hpcfast.evaluation import attacked
from hpcfast.evaluation.interval import interval
from hpcfast.evaluation.outcomes import Round
from hpcfast.runs.files import save_text

_COUNTS = TypeAdapter(dict[str, tuple[int, int]])


def measure(
    model: nn.Module,
    folder: Path,
    classes: tuple[str, ...],
    config: RunConfig,
    world: World,
    progress: Callable[[int], None] = lambda done: None,
    kept: Path | None = None,
) -> dict[str, Any]:
    """Measure clean accuracy on every ``folder/<corruption>/<severity>``; a collective of all ranks.

    Published images are cropped already and are only resized to the network's size, as in ImageNet-C's own test; ours
    are as the originals and are cropped as those are.

    Args:
        classes: of the model, in its order; the class folders of every part must be some of them, everywhere the same.
        config: of which the data settings and ``evaluation.batch_size`` count here.
        progress: see :func:`hpcfast.evaluation.attacked`; of all images.
        kept: a file that says what was measured before, of this model with these settings, and is kept.

    Returns:
        ``mean`` (accuracy over all images), ``rows`` (``corruption``, ``severity``, ``accuracy``, ``ci95`` (Wilson),
        ``n``), ``by_corruption`` (mean over its severities) and ``said`` (what a person should know of the classes,
        sentences). Not divided by AlexNet's errors, as the paper's mCE is.

    Raises:
        UserError: ``folder`` is missing, has no severities, an unknown or an empty class; or see ``attacked``.
    """
    parts = comm.raise_on_all_ranks(lambda: _find(folder))
    if not comm.on_root((folder / MANIFEST).is_file):
        config = config.model_copy(update={"data": config.data.model_copy(update={"augment": "none"})})
    known = comm.on_root(lambda: _kept(kept) if kept and kept.is_file() else {})
    found, before = list[list[int]](), 0
    for (name, severity), part in parts.items():
        split, said = comm.raise_on_all_ranks(partial(_read, part, classes))
        (images,) = agreed((split,), world)
        key = f"{name} {severity} {images.digest}"
        if key not in known:
            known[key] = _right(model, split, config, world, before, progress)
            if kept:
                comm.on_root(partial(save_text, kept, json.dumps(known)))
        found.append(known[key])
        before += len(split)
    rows: list[dict[str, Any]] = [
        {"corruption": name, "severity": severity, "accuracy": right / n, "ci95": interval(right, n), "n": n}
        for (name, severity), (right, n) in zip(parts, found, strict=True)
    ]
    means = {name: fmean(row["accuracy"] for row in rows if row["corruption"] == name) for name, _ in parts}
    mean = sum(right for right, _ in found) / sum(n for _, n in found)
    return {"mean": mean, "rows": rows, "by_corruption": means, "said": said}


def _kept(file: Path) -> dict[str, Any]:
    """What was measured before, by part; nothing if the file is damaged."""
    try:
        return _COUNTS.validate_json(file.read_bytes())
    except (OSError, ValueError):
        return {}


def _read(part: Path, classes: tuple[str, ...]) -> tuple[Split, list[str]]:
    return match(read_split(part, "--corruptions"), classes, "the model")


def _right(
    model: nn.Module, split: Split, config: RunConfig, world: World, before: int, progress: Callable[[int], None]
) -> list[int]:
    """How many images of ``split`` all ranks together find classified rightly, and how many they could read."""
    planned = [Round("clean", config.threat.ball, None)]
    outcomes = attacked(model, split, split.good, planned, config, world, lambda done: progress(before + done))
    return [int(outcomes.right.sum()), len(outcomes.good)]


def _find(folder: Path) -> dict[tuple[str, int], Path]:
    """The folder of each corruption and severity in ``folder``."""
    if not folder.is_dir():
        raise UserError(f"--corruptions: no folder {folder}; make one with 'hpcfast data corrupt'")
    names = folders_in(str(folder))[0]
    parts = {(name, severity): folder / name / str(severity) for name in names for severity in SEVERITIES}
    parts = {key: part for key, part in parts.items() if part.is_dir()}
    bare = sorted({*names} - {name for name, _ in parts})
    if bare or not parts:
        raise UserError(
            f"--corruptions {folder}: no folder 1, 2, 3, 4 or 5 (severities) in {', '.join(bare[:5]) or 'it'}. "
            f"It must hold folders CORRUPTION/SEVERITY/CLASS, as 'hpcfast data corrupt' writes, and no others."
        )
    first, *others = parts.values()
    for part in others:
        if odd := sorted({*folders_in(str(part))[0]} ^ {*folders_in(str(first))[0]}):
            raise UserError(
                f"--corruptions: {part} and {first} must have the same classes; only in one of them: "
                f"{', '.join(odd[:5])}. Add the missing class folders or remove the surplus ones."
            )
    return parts
