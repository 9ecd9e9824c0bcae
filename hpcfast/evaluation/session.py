"""One evaluation as a person asks for it: shown, kept, stopped politely, and looked over for masked gradients."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
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
from hpcfast.evaluation.cache import Place, evaluate_cached, write
from hpcfast.runs.progress import Reporter, Task
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
    with Reporter(world.is_root) as reporter, _stoppable() as vote:
        for sentence in said:
            reporter.say(sentence)
        task = reporter.task("evaluation", work, "attacks")
        watch = _watched(task, work, vote)
        (images,) = agreed((split,), world)
        result, place = evaluate_cached(
            model, split, images, config, check, world, folder, watch, keep_images, overwrite, reporter.say
        )
        task.close()
        if bad := result["bad_images"]:
            reporter.say(f"left out of the evaluation: {skips.first_of(bad)}")
        if result["masking"] is None:
            _look(what, np.array(result["ids"]), result, place, world, reporter, vote)
    return result, place


def measure_corruptions(what: Subject, images: Path, world: World, overwrite: bool = False) -> dict[str, Any]:
    """Measure ``what`` under the corruptions in the folder ``images``; a collective of all ranks.

    Returns:
        See :func:`hpcfast.evaluation.corruptions.measure`.

    Raises:
        Stopped: a signal came; the same call resumes after the last corruption and severity that was done.
    """
    model = what.model.to(world.device)
    with Reporter(world.is_root) as reporter, _stoppable() as vote, ExitStack() as held:
        journal = corruptions.Kept(what.folder, model, what.config)
        comm.on_root(lambda: held.enter_context(journal.claimed(overwrite)))
        task = reporter.task("corruptions", None, "images")
        watch = _watched(task, None, vote)
        result = corruptions.measure(model, images, what.split.classes, what.config, world, watch, journal)
        task.close()
    return result


@contextmanager
def _stoppable() -> Iterator[Callable[[], bool]]:
    """Give a question for after each batch, a collective of all ranks: was any of them asked to stop?"""
    vote = comm.Vote()
    with StopRequest() as stop:

        def asked() -> bool:
            stopping = any(vote.cast(stop.requested is not None))
            if stopping:
                vote.count()
            return stopping

        yield asked
        vote.count()


def _watched(task: Task, work: int | None, asked: Callable[[], bool]) -> Callable[[int], None]:
    """Show progress, and stop when ``asked``; called after each batch, equally often on all ranks."""

    def progress(done: int) -> None:
        task.update(done)
        if asked():
            of = f" of {work:,}" if work else ""
            raise Stopped(f"stopped after {done:,}{of} {task.unit}; the same command resumes there")

    return progress


def _look(
    what: Subject,
    ids: np.ndarray,
    result: dict[str, Any],
    place: Place,
    world: World,
    reporter: Reporter,
    asked: Callable[[], bool],
) -> None:
    """Look for masked gradients at some of the images ``ids`` that were measured, and add it to the result."""
    few = masking.some(ids, world)
    work = masking.work(few)
    task = reporter.task("look for masked gradients", work, "attacks")
    with ExitStack() as held:
        comm.on_root(lambda: held.enter_context(place.claimed()))
        watch = _watched(task, work, asked)
        result["masking"] = masking.look(what.model, what.split, few, what.config, world, watch, place.path)
        comm.on_root(lambda: write(place, result))
        comm.on_root(lambda: masking.forget(place.path))
    task.close()
