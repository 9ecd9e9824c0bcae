"""Accuracy under common corruptions: of ImageNet-C, or of what ``hpcfast data corrupt`` writes."""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import torch
from torch import nn

from hpcfast import comm, lock
from hpcfast.comm import World
from hpcfast.config import RunConfig
from hpcfast.data import skips
from hpcfast.data.corrupt import MANIFEST
from hpcfast.data.corruptions import SEVERITIES
from hpcfast.data.folder import Split, read_split
from hpcfast.errors import UserError
from hpcfast.evaluate import classify, kept, shared_out
from hpcfast.evaluate.freeze import frozen, full_precision
from hpcfast.evaluate.results import interval
from hpcfast.files import save_text


class Part(NamedTuple):
    """The images of one corruption at one severity."""

    corruption: str
    severity: int
    folder: Path


class Kept:
    """What each part came to, on disk: a measurement that was stopped goes on with the next part."""

    def __init__(self, folder: Path, model: nn.Module, config: RunConfig) -> None:
        """For this model and these data settings, in a folder of its own in ``folder``."""
        about = {
            "weights": kept.sha256(model.state_dict()),
            "network": config.model.model_dump(mode="json"),
            "data": config.data.model_dump(mode="json", include={"size", "channels", "augment"}),
            "versions": {name: version(name) for name in ("hpcfast", "torch", "nvidia-dali-cuda130")},
        }
        digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
        self.path = folder / f"corruptions-{digest[:8]}"
        self._file = self.path / "parts.json"

    @contextmanager
    def claimed(self, overwrite: bool) -> Iterator[None]:
        """Hold the folder for this block; forget what it holds if ``overwrite``.

        Raises:
            UserError: it cannot be written, or another process is at it.
        """
        with lock.held(self.path, "evaluation", "give --out a folder you may write", kept.TAKEN):
            if overwrite:
                self._file.unlink(missing_ok=True)
            yield

    def find(self, part: Part, split: Split) -> tuple[int, int] | None:
        """How many images of ``part`` were right, and of how many; None where that was not measured."""
        found: list[int] | None = self._read().get(self._key(part, split))
        return (found[0], found[1]) if found else None

    def note(self, part: Part, split: Split, right: int, n: int) -> None:
        """Keep what ``part`` came to."""
        save_text(self._file, json.dumps({**self._read(), self._key(part, split): [right, n]}, indent=1) + "\n")

    def _read(self) -> dict[str, list[int]]:
        return json.loads(self._file.read_text()) if self._file.is_file() else {}

    def _key(self, part: Part, split: Split) -> str:
        """Which images: where they are, their names, and when their folders were written last."""
        written = [str((part.folder / label).stat().st_mtime_ns) for label in split.classes]
        images = hashlib.sha256("\n".join([*split.files, *written]).encode("utf-8", "surrogateescape")).hexdigest()
        return f"{part.corruption} {part.severity} {images[:16]}"


def measure(
    model: nn.Module,
    folder: Path,
    classes: tuple[str, ...],
    config: RunConfig,
    world: World,
    progress: Callable[[int], None] = lambda done: None,
    journal: Kept | None = None,
) -> dict[str, Any]:
    """Measure clean accuracy on every ``folder/<corruption>/<severity>``; a collective of all ranks.

    Published images are cropped already and are only resized to the network's size, as in ImageNet-C's own test; ours
    are as the originals and are cropped as those are.

    Args:
        classes: of the model, in its order; the same class folders must be in every part.
        config: of which the data settings and ``evaluation.batch_size`` count here.
        progress: called after each batch, equally often on all ranks, with the images done by all ranks as far as
            this one can tell.
        journal: which says what was measured before, and is kept.

    Returns:
        ``mean`` (accuracy over all images), ``rows`` (``corruption``, ``severity``, ``accuracy``, ``ci95`` (Wilson),
        ``n``) and ``by_corruption`` (mean over its severities). Not divided by AlexNet's errors, as the paper's mCE is.

    Raises:
        UserError: ``folder`` is missing, has no severities, has other classes or an empty one, or too many bad images.
    """
    parts = comm.together(lambda: find(folder, classes))
    if not comm.on_root((folder / MANIFEST).is_file):
        config = config.model_copy(update={"data": config.data.model_copy(update={"augment": "none"})})
    still = frozen(model, torch.rand(2, config.data.channels, config.data.size, config.data.size).to(world.device))
    rights: list[int] = []
    counts: list[int] = []
    for part in parts:
        split = comm.together(partial(read_split, part.folder, "--corruptions"))
        before = comm.on_root(partial(journal.find, part, split)) if journal else None
        right, n = before or _right(still, split, config, world, sum(counts), progress)
        if journal and not before:
            comm.on_root(partial(journal.note, part, split, right, n))
        rights.append(right)
        counts.append(n)
    rows: list[dict[str, Any]] = [
        {"corruption": name, "severity": severity, "accuracy": right / n, "ci95": interval(right, n), "n": n}
        for (name, severity, _), right, n in zip(parts, rights, counts, strict=True)
    ]
    means = {name: fmean(row["accuracy"] for row in rows if row["corruption"] == name) for name, *_ in parts}
    return {"mean": sum(rights) / sum(counts), "rows": rows, "by_corruption": means}


def find(folder: Path, classes: tuple[str, ...]) -> list[Part]:
    """All parts in ``folder``, by name and severity.

    Raises:
        UserError: it is missing, a folder in it has no severities, or a part has other class folders than ``classes``.
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
        odd = sorted({entry.name for entry in part.folder.iterdir() if entry.is_dir()} ^ {*classes})
        if odd:
            raise UserError(
                f"--corruptions: {part.folder} must have the classes of the model; only in one of them: "
                f"{', '.join(odd[:5])}. Give corruptions of the data set that it was trained on."
            )
    return parts


def _right(
    model: nn.Module, split: Split, config: RunConfig, world: World, before: int, progress: Callable[[int], None]
) -> tuple[int, int]:
    """How many images of ``split`` all ranks together find classified rightly, and how many they could read."""
    right, done = 0, 0
    faults: dict[int, str] = {}
    with full_precision():
        for x, y, ids in shared_out(split, split.good, config, world, faults):
            if len(ids):
                right += int((classify(model, x) == y).sum())
            done += len(ids)
            progress(before + min(done * world.size, len(split)))  # the others are about as far
    bad = {image: fault for each in comm.gather(faults) for image, fault in each.items()}
    skips.refuse_many(split, bad, len(split))
    return int(comm.total(torch.tensor(right))), len(split) - len(bad)
