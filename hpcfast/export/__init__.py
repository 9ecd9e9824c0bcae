"""A run's model as a file for others.

No file is given its name before it was loaded again by the loader of its format and made the logits that the run's own
model makes.
"""

import hashlib
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from hpcfast import foreign
from hpcfast.config import RunConfig
from hpcfast.errors import UserError
from hpcfast.export import card, hub
from hpcfast.export.formats import FORMATS, Format, Logits
from hpcfast.models import saved
from hpcfast.runs import files
from hpcfast.runs.directory import RunDirectory

TOLERANCE = 1e-4
"""By which logits may differ, relative to the largest one: float32's rounding, with much to spare."""
BATCHES = (1, 7)
"""Images that a file is checked with at a time: a program must take batches of any size."""


def publish(run: RunDirectory, config: RunConfig, name: str, out: Path, overwrite: bool = False) -> dict[str, Any]:
    """Write the model of a finished run to ``out``, its card to ``out.md``, and what it is to ``out.json``.

    A repository of the Hub is a folder with all of them.

    Args:
        name: of the format, a key of :data:`~hpcfast.export.formats.FORMATS`.

    Returns:
        ``path``, ``card``, ``about``, ``format``, ``bytes``, ``sha256``, and ``largest_difference`` (of any logits).

    Raises:
        UserError: the run is unfinished, a file is there already or cannot be written, or the file does not do
            what the model does.
    """
    model, classes = saved.load(run, config.model)
    summary = run.read_summary()
    if summary is None:
        raise UserError(f"{run.path} is unfinished; resume it with 'hpcfast train {run.config}'")
    form = FORMATS[name]
    if form.folder and foreign.is_path(config.model.name):
        raise UserError(
            f"--format {name}: timm, which loads such a folder, cannot build {config.model.name}; take safetensors, "
            f"state-dict or torchscript"
        )
    file = out / hub.WEIGHTS if form.folder else out
    card_file = out / hub.CARD if form.folder else out.with_name(f"{out.name}.md")
    about_file = file.with_name(f"{file.name}.json")
    texts = {out / hub.CONFIG: hub.configuration(config, classes, model)} if form.folder else {}
    _refuse_existing(out, [file, card_file, about_file, *texts], overwrite)
    result = {"path": str(out), "card": str(card_file), "about": str(about_file), "format": name}
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        # A folder of this process's own, on the disk of the file (``out`` may be a link to it). There the file has its
        # final name, which torch writes into it.
        with TemporaryDirectory(prefix=".export-", dir=file.resolve().parent) as place:
            draft = Path(place) / file.name
            for path in texts:
                draft.with_name(path.name).write_text(texts[path])
            result |= _draft(form, config, model, draft, out)
            texts[about_file] = json.dumps(card.about(config, classes, summary, result), indent=1) + "\n"
            texts[card_file] = card.markdown(out, config, classes, summary, result)
            for path in texts:
                files.save_text(path, texts[path])
            files.write_atomically(file, draft.replace)  # the last, so its presence says that all is there
    except OSError as error:
        raise UserError(f"--out {out} cannot be written ({error}); give a file in a folder you may write") from None
    return result


def _draft(form: Format, config: RunConfig, model: nn.Module, draft: Path, out: Path) -> dict[str, Any]:
    """Write ``draft``, load it again, and compare; returns what is to be said of it."""
    shape = (max(BATCHES), config.data.channels, config.data.size, config.data.size)
    images = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    form.write(model, images, draft)
    difference = _compare(form.read(draft, config.model), model, images, out)
    with draft.open("rb") as data:
        digest = hashlib.file_digest(data, "sha256").hexdigest()
    return {"bytes": draft.stat().st_size, "sha256": digest, "largest_difference": difference}


@torch.no_grad()
def _compare(logits: Logits, model: nn.Module, images: Tensor, out: Path) -> float:
    """The largest difference of any two logits of ``logits`` and ``model``; a UserError if it is more than rounding."""
    ours = model(images)
    # nan_to_num: a comparison with NaN is never true, and max() may lose it
    found = max(float((ours[:n] - logits(images[:n])).abs().nan_to_num(torch.inf).max()) for n in BATCHES)
    if found > TOLERANCE * max(1.0, float(ours.abs().max())):
        raise UserError(
            f"{out}, loaded again, does not do what the run's model does: logits differ by up to {found:.3g}. "
            "Nothing was kept; try another --format"
        )
    return found


def _refuse_existing(out: Path, paths: list[Path], overwrite: bool) -> None:
    there = [path for path in paths if path.exists()]
    if folders := [path for path in there if path.is_dir()]:
        raise UserError(f"--out {out}: {folders[0]} is a folder; name a file, e.g. {folders[0] / 'robust.onnx'}")
    if out not in paths and out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file, and a model repository is a folder; name one, e.g. {out}-hub")
    if there and not overwrite:
        cure = "give another --out, or --overwrite to replace what is there"
        raise UserError(f"{', '.join(map(str, there))}: already there; {cure}")
