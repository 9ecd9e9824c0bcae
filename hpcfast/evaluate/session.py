"""One evaluation as a person asks for it: shown, kept, stopped politely, and looked over for masked gradients."""

from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from hpcfast import comm
from hpcfast.comm import World
from hpcfast.config import RunConfig
from hpcfast.data import skips
from hpcfast.data.folder import Split
from hpcfast.evaluate import chosen_images, masking, rounds
from hpcfast.evaluate.kept import Place, evaluate_kept, write
from hpcfast.progress import Reporter
from hpcfast.stop import Stopped, StopRequest


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
    """Measure ``what`` as :func:`hpcfast.evaluate.kept.evaluate_kept` does; a collective of all ranks.

    Returns:
        The result, ``masking`` filled in (:func:`hpcfast.evaluate.masking.look`); and its place.

    Raises:
        Stopped: a signal came; the same call goes on.
    """
    config, model, split, folder, said = what
    check = config.evaluation.final
    work = len(chosen_images(split, check, world)) * len(rounds(config, check, len(split.classes)))
    model = model.to(world.device)
    with Reporter(world.is_root) as reporter, StopRequest() as stop:
        for sentence in said:
            reporter.say(sentence)
        task = reporter.task("evaluation", work, "attacks")

        ballot = comm.Ballot()

        def progress(done: int) -> None:
            task.update(done)
            if any(ballot.cast(stop.requested is not None)):
                ballot.count()
                raise Stopped(f"stopped after {done:,} of {work:,} attacks; the same command goes on from there")

        result, place = evaluate_kept(
            model, split, config, check, world, folder, progress, keep_images, overwrite, reporter.say
        )
        ballot.count()
        task.close()
        if bad := result["bad_images"]:
            reporter.say(f"left out of the evaluation: {skips.first_of(bad)}")
        if result["masking"] is None:
            result["masking"] = masking.look(model, split, config, world)
            comm.on_root(lambda: write(place, result))
    return result, place
