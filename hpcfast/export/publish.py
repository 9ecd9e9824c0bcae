"""A run's model as a file for others, with a card that says what it is.

No file is given its name before it was loaded again by the loader of its format and did to validation images
what the run's own model does.
"""

import hashlib
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from torch import nn

from hpcfast.config import RunConfig
from hpcfast.data import dali, skips
from hpcfast.data.classes import match
from hpcfast.data.reader import read_splits
from hpcfast.data.split import Split
from hpcfast.errors import UserError
from hpcfast.evaluation import interval
from hpcfast.evaluation.sharding import good_batches
from hpcfast.export import card
from hpcfast.export.formats import FORMATS, Logits
from hpcfast.models import saved
from hpcfast.runs import files
from hpcfast.runs.directory import RunDirectory
from hpcfast.runs.progress import Reporter

QUIET = Reporter(visible=False)
TOLERANCE = 1e-4
"""By which logits may differ, relative to the largest one: float32's rounding, with much to spare."""


class Agreement(NamedTuple):
    """A file that was loaded again beside the run's own model."""

    n: int
    right: int
    """Of ``n`` images, classified correctly by the file."""
    right_before: int
    """Of ``n`` images, by the run's model."""
    difference: float
    """Largest of any two logits."""
    largest: float
    """Largest absolute logit of the run's model."""


def publish(
    run: RunDirectory,
    config: RunConfig,
    name: str,
    out: Path,
    images: int | None = None,
    overwrite: bool = False,
    reporter: Reporter = QUIET,
) -> dict[str, Any]:
    """Write the model of a finished run to ``out``, its card to ``out.md``, and what it is to ``out.json``.

    Args:
        config: the run's, of which the data settings say where the validation images are.
        name: of the format, a key of :data:`~hpcfast.export.formats.FORMATS`.
        images: check so many validation images, evenly spread; by default all.
        reporter: shows how many images are checked.

    Returns:
        ``path``, ``format``, ``bytes``, ``sha256``, ``clean_accuracy`` (a fraction, by the file) with its ``ci95`` and
        ``n_eval``, and ``largest_difference`` (of any two logits).

    Raises:
        UserError: the run is unfinished, a file is there already or cannot be written, or the file does not do
            what the model does; then it stays, as ``out.unverified``.
    """
    model, classes = saved.load(run, config.model)
    summary = run.read_summary()
    if summary is None:
        raise UserError(f"{run.path} is unfinished; resume it with 'hpcfast train {run.config}'")
    split, _ = match(read_splits(config.data.path, config.data.skips)[1].some(images), classes, str(run.path))
    card_file, about_file = out.with_name(f"{out.name}.md"), out.with_name(f"{out.name}.json")
    _refuse_existing([out, card_file, about_file], overwrite)
    form = FORMATS[name]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        # A folder of this process's own, where the file has its final name: torch writes that into it.
        with TemporaryDirectory(prefix=".export-", dir=out.parent) as place:
            file = Path(place) / out.name
            form.write(model, torch.full((2, config.data.channels, config.data.size, config.data.size), 0.5), file)
            agreement = compare(form.read(file, config.model), model, split, config, reporter)
            if agreement.difference > TOLERANCE * max(1.0, agreement.largest):
                unverified = file.replace(out.with_name(f"{out.name}.unverified"))
                raise UserError(
                    f"{unverified}, loaded again, does not do what the run's model does: logits differ by up to "
                    f"{agreement.difference:.3g}, and it classifies {agreement.right} of {agreement.n} images "
                    f"correctly, the model {agreement.right_before}. It stays under this name; try another --format"
                )
            result = _describe(out, name, file, agreement)
            about = card.about(config, classes, summary, result)
            files.save_text(about_file, json.dumps(about, indent=1) + "\n")
            files.save_text(card_file, card.markdown(out, config, classes, summary, result))
            files.write_atomically(out, file.replace)  # the last, so its presence says that all is there
    except OSError as error:
        raise UserError(f"--out {out} cannot be written ({error}); give a file in a folder you may write") from None
    return result


@torch.no_grad()
def compare(logits: Logits, model: nn.Module, split: Split, config: RunConfig, reporter: Reporter) -> Agreement:
    """Run ``logits`` and ``model`` on all images of ``split``, on the CPU, in batches of the evaluation's size.

    Bad images are left out and named.

    Raises:
        UserError: too many images are bad.
    """
    shard = dali.Shard(0, 1, torch.device("cpu"), config.data.threads or 1)
    n = right = right_before = 0
    difference = largest = 0.0
    ids = split.good
    task = reporter.task("check", len(ids), "images")
    faults: dict[int, str] = {}
    for x, y, _ in good_batches(split, ids, config.data, shard, config.evaluation.batch_size, faults):
        ours, theirs = model(x), logits(x)
        right += int((theirs.argmax(1) == y).sum())
        right_before += int((ours.argmax(1) == y).sum())
        # nan_to_num: a comparison with NaN is never true, and max() may lose it
        difference = max(difference, float((ours - theirs).abs().nan_to_num(torch.inf).max()))
        largest = max(largest, float(ours.abs().max()))
        n += len(y)
        task.update(n)
    task.close()
    skips.refuse_many(split, faults, len(ids))
    if faults:
        reporter.say(f"left out of the check: {skips.described(split, faults)}")
    return Agreement(n, right, right_before, difference, largest)


def _describe(out: Path, name: str, file: Path, agreement: Agreement) -> dict[str, Any]:
    with file.open("rb") as data:
        digest = hashlib.file_digest(data, "sha256").hexdigest()
    return {
        "path": str(out),
        "format": name,
        "bytes": file.stat().st_size,
        "sha256": digest,
        "clean_accuracy": agreement.right / agreement.n,
        "n_eval": agreement.n,
        "ci95": {"clean_accuracy": interval(agreement.right, agreement.n)},
        "largest_difference": agreement.difference,
    }


def _refuse_existing(paths: list[Path], overwrite: bool) -> None:
    there = [path for path in paths if path.exists()]
    if folders := [path for path in there if path.is_dir()]:
        raise UserError(f"--out {paths[0]}: {folders[0]} is a folder; name a file, e.g. {folders[0] / 'robust.onnx'}")
    if there and not overwrite:
        cure = "give another --out, or --overwrite to replace what is there"
        raise UserError(f"{', '.join(map(str, there))}: already there; {cure}")
