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
from torch import Tensor, nn

from hpcfast.config import RunConfig
from hpcfast.data import Batch, skips
from hpcfast.data.folder import folders_in, read_split
from hpcfast.data.identity import Identity, agreed
from hpcfast.data.split import Split, match
from hpcfast.datasets.corrupt import MANIFEST
from hpcfast.datasets.corruptions import SEVERITIES
from hpcfast.distributed import comm
from hpcfast.distributed.comm import World
from hpcfast.errors import UserError
from hpcfast.evaluation import Pieces, batch_size, cache, classify, refuse_not_finite, shared_out
from hpcfast.evaluation.freeze import frozen, full_precision
from hpcfast.evaluation.outcomes import NOT_FINITE
from hpcfast.evaluation.results import interval
from hpcfast.runs import lock
from hpcfast.runs.files import save_text


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
            "weights": cache.sha256(model.state_dict()),
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
        with lock.held(self.path, "evaluation", "give --out a folder you may write", cache.TAKEN):
            if overwrite:
                self._file.unlink(missing_ok=True)
            yield

    def find(self, part: Part, images: Identity) -> tuple[int, int] | None:
        """How many of the ``images`` of ``part`` were right, and of how many; None where that was not measured."""
        found: list[int] | None = self._read().get(_key(part, images))
        return (found[0], found[1]) if found else None

    def note(self, part: Part, images: Identity, right: int, n: int) -> None:
        """Keep what ``part`` came to."""
        save_text(self._file, json.dumps({**self._read(), _key(part, images): [right, n]}))

    def _read(self) -> dict[str, list[int]]:
        return json.loads(self._file.read_text()) if self._file.is_file() else {}


def _key(part: Part, images: Identity) -> str:
    return f"{part.corruption} {part.severity} {images.digest}"


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
        classes: of the model, in its order; the class folders of every part must be some of them, everywhere the same.
        config: of which the data settings and ``evaluation.batch_size`` count here.
        progress: called after each batch, equally often on all ranks, with the images done by all ranks as far as
            this one can tell.
        journal: which says what was measured before, and is kept.

    Returns:
        ``mean`` (accuracy over all images), ``rows`` (``corruption``, ``severity``, ``accuracy``, ``ci95`` (Wilson),
        ``n``), ``by_corruption`` (mean over its severities) and ``said`` (what a person should know of the classes,
        sentences). Not divided by AlexNet's errors, as the paper's mCE is.

    Raises:
        UserError: ``folder`` is missing, has no severities, an unknown class or an empty one, or too many bad images;
            or the model gives logits that are not finite.
    """
    parts = comm.raise_on_all_ranks(lambda: find(folder))
    if not comm.on_root((folder / MANIFEST).is_file):
        config = config.model_copy(update={"data": config.data.model_copy(update={"augment": "none"})})
    still = frozen(model, torch.rand(2, config.data.channels, config.data.size, config.data.size).to(world.device))
    pieces = Pieces(batch_size([still], config, world))
    rights: list[int] = []
    counts: list[int] = []
    for part in parts:
        split, said = comm.raise_on_all_ranks(partial(_read, part, classes))
        (images,) = agreed((split,), world)
        before = comm.on_root(partial(journal.find, part, images)) if journal else None
        right, n = before or _right(still, split, pieces, config, world, sum(counts), progress)
        if journal and not before:
            comm.on_root(partial(journal.note, part, images, right, n))
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
    names = folders_in(str(folder))[0]
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
    return {*folders_in(str(part))[0]}


def _right(
    model: nn.Module,
    split: Split,
    pieces: Pieces,
    config: RunConfig,
    world: World,
    before: int,
    progress: Callable[[int], None],
) -> tuple[int, int]:
    """How many images of ``split`` all ranks together find classified rightly, and how many they could read."""
    right, done = 0, 0
    odd = [torch.empty(0, dtype=torch.int64)]
    faults: dict[int, str] = {}

    def measured(piece: Batch) -> tuple[int, Tensor]:
        found = classify(model, piece.x)
        return int((found == piece.y).sum()), piece.ids.where(found == NOT_FINITE, -1)

    with full_precision():
        for batch in shared_out(split, split.good, pieces.most, config, world, faults):
            for rightly, unfinite in pieces.each(measured, batch):
                right += rightly
                odd.append(unfinite)
            done += len(batch.ids)
            progress(before + min(done * world.size, len(split)))  # the others are about as far
    gathered = comm.gather((faults, [image for images in odd for image in images.tolist() if image >= 0]))
    refuse_not_finite(split, [image for _, images in gathered for image in images])
    bad = {image: fault for each, _ in gathered for image, fault in each.items()}
    skips.refuse_many(split, bad, len(split))
    return int(comm.total(torch.tensor(right))), len(split) - len(bad)
