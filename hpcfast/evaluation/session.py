"""``hpcfast eval``: what a person names is measured, shown, kept, stopped politely, and looked over for masking."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from omegaconf import OmegaConf
from torch import nn

from hpcfast.config import RunConfig, parse, read_run, understood
from hpcfast.data import DataSettings, folder, skips
from hpcfast.data.identity import agreed
from hpcfast.data.reader import read_splits
from hpcfast.data.resize import EVAL_CROP
from hpcfast.data.split import Split, match
from hpcfast.distributed import comm
from hpcfast.distributed.comm import World
from hpcfast.errors import UserError
from hpcfast.evaluation import chosen_images, corruptions, masking, rounds
from hpcfast.evaluation.cache import LOOK, claimed, depends_on, evaluate_cached, place_of, write
from hpcfast.models import fitting, pretrained, saved
from hpcfast.models.pretrained import class_names
from hpcfast.runs.directory import RunDirectory
from hpcfast.runs.progress import Reporter
from hpcfast.runs.signals import Stopped, StopRequest


class Subject(NamedTuple):
    """What is measured (``config.evaluation.final`` says how), the folder that keeps evaluations, and what to say."""

    config: RunConfig
    model: nn.Module
    split: Split
    folder: Path
    said: list[str]


class Elsewhere(NamedTuple):
    """What the options that go with ``--weights`` say, as they were typed."""

    weights_key: str | None = None
    arch: str | None = None
    mean: str | None = None
    std: str | None = None
    classes: Path | None = None
    data: Path | None = None
    size: int | None = None


def named(run: Path | None, weights: Path | None, given: Elsewhere, changes: list[str], out: Path | None) -> Subject:
    """A finished run on its own validation images, or weights from elsewhere; results go to the folder ``out``."""
    if weights and not run:
        return of_weights(weights, given, changes, out)
    if weights or not run:
        raise UserError("name what to measure: either a run directory or --weights FILE")
    if odd := [name.replace("_", "-") for name, value in given._asdict().items() if value is not None]:
        raise UserError(
            f"--{odd[0]} is for --weights, not for the run {run}; its settings are changed as key=value, "
            f"e.g. data.path=data/cifar10"
        )
    directory = RunDirectory(run)
    config = read_run(directory, changes)
    model, classes = saved.load(directory, config.model)
    split, said = match(read_splits(config.data.path, config.data.skips)[1], classes, str(run))
    said += folder.remark(split)
    return Subject(config, model, split, out or directory.evaluations, said)


def of_weights(weights: Path, given: Elsewhere, changes: list[str], out: Path | None) -> Subject:
    """Weights from elsewhere, on the validation images in ``given.data``."""
    origin = f"--weights {weights}"
    eps = next((change for change in changes if change.startswith("threat.eps=")), None)
    needed = ("data", given.data, "data/cifar10"), ("size", given.size, "32"), ("eps", eps, "8/255")
    for option, value, example in needed:
        if value is None:
            raise UserError(f"{origin}: --{option} is missing, e.g. --{option} {example}")
    mean, std = _numbers("--mean", given.mean), _numbers("--std", given.std)
    with understood(f"{origin}, {' '.join(changes)}"):
        typed = OmegaConf.from_dotlist([change for change in changes if change.startswith("model.options.")])
        options = cast("dict[str, Any]", OmegaConf.to_container(typed, resolve=True)).get("model", {}).get("options")
    model, notes = pretrained.load(weights, given.arch, mean, std, options, given.weights_key)
    attack = {"attack": {"name": "autoattack"}}
    settings = {  # an evaluation only uses the data, the model, the threat and the attack
        "name": weights.stem,
        "threat": {"norm": "Linf"},
        "data": {"path": str(given.data), "size": given.size, "channels": len(notes.mean), "batch_size": 1},
        "model": notes.model.model_dump(mode="json"),
        "attack": {"name": "standard"},
        "epochs": 1,
        "optim": {"lr": 1.0, "lr_batch": 1},
        "schedule": {"name": "cosine"},
        "evaluation": {"monitor": attack, "final": attack},
    }
    config = parse(settings, changes, origin)
    if config.model != notes.model:
        raise UserError(f"{origin}: say what the network is with --arch, --mean, --std and model.options.…=")
    split = read_splits(config.data.path, config.data.skips)[1]
    found = class_names.find(weights, notes.outputs, notes.classes, given.classes, split.classes)
    split, matched = match(split, found.names, found.origin)
    said = [*notes.said, *found.said, *matched, _shape(config.data), *folder.remark(split)]
    return Subject(config, model, split, out or Path("evaluations") / weights.stem, said)


def _numbers(option: str, text: str | None) -> tuple[float, ...] | None:
    try:
        return None if text is None else tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"{option} {text}: give a number a channel, e.g. {option} 0.5,0.5,0.5") from None


def _shape(data: DataSettings) -> str:
    """How images of other shapes are brought to the network's, which published numbers depend on."""
    size, shorter = data.size, round(data.size / EVAL_CROP)
    if data.augment == "resized_crop_flip":
        return f"each image's shorter side is resized to {shorter}, its middle of {size} x {size} is used"
    return (
        f"each image is resized to {size} x {size}, whatever its shape; data.augment=resized_crop_flip resizes the "
        f"shorter side to {shorter} and uses the middle, as is usual with ImageNet"
    )


def measure(
    what: Subject, world: World, keep_images: bool = False, overwrite: bool = False
) -> tuple[dict[str, Any], Path]:
    """Measure ``what`` as :func:`hpcfast.evaluation.cache.evaluate_cached` does; a collective of all ranks.

    In the result ``masking`` is what :func:`hpcfast.evaluation.masking.look` finds.

    Raises:
        Stopped: a signal came; the same call resumes.
    """
    config, model, split, folder, said = what
    fitting.check(config.model, len(split.classes), config.data.channels, {config.data.size})
    check = config.evaluation.final
    work = len(chosen_images(split, check, world)) * len(rounds(config, check, len(split.classes)))
    model = model.to(world.device)
    with Reporter(world.is_root) as reporter, StopRequest() as stop:
        for sentence in said:
            reporter.say(sentence)
        with _task(reporter, stop, "evaluation", work, "attacks") as progress:
            (images,) = agreed((split,), world)
            result, place = evaluate_cached(
                model, split, images, config, check, world, folder, progress, keep_images, overwrite, reporter.say
            )
        if bad := result["bad_images"]:
            reporter.say(f"left out of the evaluation: {skips.first_of(bad)}")
        if result["masking"] is None:
            few = masking.some(np.array(result["ids"]), world)
            work = masking.ATTACKS * len(few)
            with _task(reporter, stop, "look for masked gradients", work, "attacks") as progress, claimed(place):
                result["masking"] = masking.look(model, split, few, config, world, progress, place / LOOK)
                comm.on_root(lambda: write(place, result))
                comm.on_root(lambda: shutil.rmtree(place / LOOK, ignore_errors=True))
    return result, place


def measure_corruptions(what: Subject, images: Path, world: World, overwrite: bool = False) -> dict[str, Any]:
    """Measure ``what`` as :func:`hpcfast.evaluation.corruptions.measure` does; a collective of all ranks.

    Raises:
        Stopped: a signal came; the same call resumes after the last corruption and severity that was done.
    """
    config, model = what.config, what.model.to(world.device)
    about = comm.on_root(lambda: depends_on(model, config))
    place = place_of(what.folder, "corruptions", about)
    kept = place / "parts.json"
    with Reporter(world.is_root) as reporter, StopRequest() as stop, claimed(place):
        if overwrite:
            comm.on_root(lambda: kept.unlink(missing_ok=True))
        with _task(reporter, stop, "corruptions", None, "images") as progress:
            return corruptions.measure(model, images, what.split.classes, config, world, progress, kept)


@contextmanager
def _task(
    reporter: Reporter, stop: StopRequest, name: str, work: int | None, unit: str
) -> Iterator[Callable[[int], None]]:
    """Show how much of the ``work`` is done, and end where any rank was asked to ``stop``.

    What it gives is to be called after each batch, equally often on all ranks.
    """
    task, vote = reporter.task(name, work, unit), comm.Vote()

    def progress(done: int) -> None:
        task.update(done)
        if any(vote.cast(stop.requested is not None)):
            vote.count()
            of = f" of {work:,}" if work else ""
            raise Stopped(f"stopped after {done:,}{of} {unit}; the same command resumes there")

    yield progress
    vote.count()
    task.close()
