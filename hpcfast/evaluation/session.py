"""One evaluation as a person asks for it: shown, kept, stopped politely, and looked over for masked gradients."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import nn

from hpcfast.config import RunConfig
from hpcfast.data import skips
from hpcfast.data.identity import agreed
from hpcfast.data.split import Split
from hpcfast.distributed import comm
from hpcfast.distributed.comm import World
from hpcfast.evaluation import chosen_images, corruptions, masking, rounds
from hpcfast.evaluation.cache import Place, depends_on, evaluate_cached
from hpcfast.runs.progress import Reporter
from hpcfast.runs.signals import Stopped, StopRequest


class Subject(NamedTuple):
    """What is measured (``config.evaluation.final`` says how), the folder that keeps evaluations, and what to say."""

    config: RunConfig
    model: nn.Module
    split: Split
    folder: Path
    said: list[str]


def measure(
    what: Subject, world: World, keep_images: bool = False, overwrite: bool = False
) -> tuple[dict[str, Any], Place]:
    """Measure ``what`` as :func:`hpcfast.evaluation.cache.evaluate_cached` does; a collective of all ranks.

    Returns:
        The result, ``masking`` filled in (:func:`hpcfast.evaluation.masking.look`); and its place.

    Raises:
        Stopped: a signal came; the same call resumes.
    """
    config, model, split, folder, said = what
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
            work = masking.work(few)
            with _task(reporter, stop, "look for masked gradients", work, "attacks") as progress, place.claimed():
                result["masking"] = masking.look(model, split, few, config, world, progress, place.look)
                comm.on_root(lambda: place.write(result))
                comm.on_root(lambda: shutil.rmtree(place.look, ignore_errors=True))
    return result, place


def measure_corruptions(what: Subject, images: Path, world: World, overwrite: bool = False) -> dict[str, Any]:
    """Measure ``what`` under the corruptions in the folder ``images``; a collective of all ranks.

    Returns:
        See :func:`hpcfast.evaluation.corruptions.measure`.

    Raises:
        Stopped: a signal came; the same call resumes after the last corruption and severity that was done.
    """
    config, model = what.config, what.model.to(world.device)
    about = comm.on_root(lambda: depends_on(model, config))
    place = Place.of(what.folder, "corruptions", about)
    kept = place.path / "parts.json"
    with Reporter(world.is_root) as reporter, StopRequest() as stop, place.claimed():
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
