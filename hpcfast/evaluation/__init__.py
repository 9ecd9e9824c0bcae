"""Robust accuracy: exact over any number of ranks.

An evaluation is a list of rounds: tries of an attack, in balls of rising radius. A round attacks the images that
stood until then, dealt out anew to all ranks now and then, so that none idles; in the end each has met its worst case.
Every image has random numbers of its own in every round, so that neither the number of ranks nor a kill in between
changes what is measured. Accuracies are fractions.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hpcfast.attacks import rng
from hpcfast.config import Check, RunConfig
from hpcfast.data import Batch
from hpcfast.data.split import Split
from hpcfast.distributed import comm
from hpcfast.distributed.comm import World
from hpcfast.evaluation.batches import Pieces, batch_size, chosen_images, shared_out
from hpcfast.evaluation.freeze import evaluating, frozen, full_precision
from hpcfast.evaluation.outcomes import NOT_FINITE, Journal, Outcomes, Record, Round, summarise
from hpcfast.models import saved

__all__ = ["Pieces", "batch_size", "chosen_images", "classify", "evaluate", "evaluating", "rounds", "shared_out"]


def rounds(config: RunConfig, check: Check, classes: int) -> list[Round]:
    """What ``check`` does: all tries of its attack in the smallest ball, then in the next larger one."""
    radii = sorted({*check.curve, config.threat.eps})
    balls = [config.threat.model_copy(update={"eps": eps}).ball for eps in radii]
    return [Round(name, ball, attempt) for ball in balls for name, attempt in check.attack.tries(ball, classes).items()]


def evaluate(
    model: nn.Module,
    split: Split,
    config: RunConfig,
    check: Check,
    world: World,
    progress: Callable[[int], None] = lambda done: None,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Measure clean and robust accuracy of ``model`` on ``split``; a collective of all ranks.

    An image counts as robust if it is classified rightly both as it is and under all tries of ``check.attack``.

    Of ``config`` the data settings, the threat model and the seed count here. ``progress``, ``say`` and errors: see
    :func:`attacked`; there must be as many images as ranks.

    Returns:
        See :func:`hpcfast.evaluation.outcomes.summarise`; and ``seconds``.
    """
    ids = chosen_images(split, check, world)
    started = time.perf_counter()
    planned = rounds(config, check, len(split.classes))
    outcomes = attacked(model, split, ids, planned, config, world, progress, say=say)
    return summarise(outcomes, config, check) | {"seconds": time.perf_counter() - started}


def attacked(
    model: nn.Module,
    split: Split,
    ids: np.ndarray,
    planned: list[Round],
    config: RunConfig,
    world: World,
    progress: Callable[[int], None] = lambda done: None,
    journal: Journal | None = None,
    keep: Path | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Outcomes:
    """Let all rounds loose on the images ``ids``; a collective of all ranks, each of which gets all outcomes.

    Args:
        progress: called after each batch, equally often on all ranks, with the work done by all ranks as far as
            this one can tell, of ``len(ids) * len(planned)``. An image that fell needs no more work.
        journal: which says what was done before, and is kept.
        keep: a folder for the images that fooled the model.
        say: told, on all ranks, where memory allows only smaller batches than ``config.evaluation.batch_size``.

    Raises:
        UserError: too many images are bad (a few are left out and noted), or logits are not finite.
    """
    outcomes = Outcomes(split, ids, planned)
    if journal:
        outcomes.note(map(Record._make, comm.on_root(lambda: [*map(tuple, journal.read())])))
    still = frozen(model, torch.rand(2, config.data.channels, config.data.size, config.data.size).to(world.device))
    pieces = Pieces(_agreed(batch_size([still], config, world), config.evaluation.batch_size, say))

    def attack(batch: Batch) -> None:
        record, images = _attack(still, batch, planned[number], config.seed, number)
        if keep:
            _keep(keep, batch, record, images)
        if journal:
            journal.write(record)
        outcomes.note([record])
        fresh.append(record)

    for leg in _legs(len(planned)):
        dealt, fresh = outcomes.entering(leg.start), list[Record]()
        for number in leg:
            left, done = outcomes.left(number), 0
            before = (number + 1) * len(ids) - len(dealt)
            with full_precision():
                for batch in shared_out(split, dealt, pieces.most, config, world, outcomes.bad, left):
                    pieces.each(attack, batch)
                    done += len(batch.ids)
                    progress(before + min(done * world.size, len(dealt)))  # the others are about as far
        everyone = comm.gather(([*map(tuple, fresh)], outcomes.bad, pieces.size))
        pieces = Pieces(_agreed(min(size for *_, size in everyone), pieces.most, say))
        for records, bad, _ in everyone:
            outcomes.note(map(Record._make, records))
            outcomes.bad.update(bad)
        outcomes.refuse()
    progress(len(ids) * len(planned))  # the last rounds may have had nothing left to do
    return outcomes


def _agreed(size: int, tried: int, say: Callable[[str], None]) -> int:
    if size < tried:
        say(f"memory has room for {size} images at a time on each rank, not {tried}")
    return size


def _legs(count: int) -> Iterator[range]:
    """Rounds between two deals, which end after the first, the second, the fourth, the eighth and so on.

    Most images that fall do so early, and each deal makes all ranks wait for the slowest.
    """
    start, end = 0, 1
    while start < count:
        yield range(start, min(end, count))
        start, end = end, 2 * end


def _attack(model: nn.Module, batch: Batch, planned: Round, seed: int, number: int) -> tuple[Record, Tensor]:
    """Attack the images that the model classifies rightly as they are."""
    x, y, ids = batch
    clean = classify(model, x)
    predicted, worst = clean.clone(), x
    held = (clean == y).nonzero().squeeze(1)
    if len(held) and planned.attempt:
        source, worst = rng.per_image(seed, ids[held], number), x.clone()
        worst[held] = planned.attempt(model, x[held], y[held], planned.ball, source)
        predicted[held] = classify(model, worst[held])
    return Record(number, ids.tolist(), clean.tolist(), predicted.tolist()), worst


def _keep(folder: Path, batch: Batch, record: Record, images: Tensor) -> None:
    """Save the images of a batch that fooled the model; before the journal says that they did."""
    predicted = torch.tensor(record.predicted)
    rows = predicted != torch.tensor(record.clean)
    if rows.any():
        tensors = {"images": images.cpu()[rows], "ids": batch.ids.cpu()[rows], "predicted": predicted[rows]}
        saved.save_weights(folder / f"round-{record.round:02}-image-{record.ids[0]:07}.safetensors", tensors)


@torch.no_grad()
def classify(model: nn.Module, x: Tensor) -> Tensor:
    """The class of the largest logit, shape (n,); ``NOT_FINITE`` where a logit is NaN or infinite."""
    logits = model(x)
    return torch.where(logits.isfinite().all(1), logits.argmax(1), NOT_FINITE)
