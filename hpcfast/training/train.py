"""``hpcfast train CONFIG``, alone or under horovodrun or mpirun: from a configuration to a model."""

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from hpcfast.config import RunConfig
from hpcfast.data import DataSettings, dataset
from hpcfast.data.dataset import Dataset
from hpcfast.distributed import comm
from hpcfast.distributed.comm import World
from hpcfast.errors import UserError
from hpcfast.evaluation import chosen_images
from hpcfast.runs import files
from hpcfast.runs.directory import RunDirectory
from hpcfast.runs.progress import Reporter
from hpcfast.runs.signals import StopRequest
from hpcfast.training import checkpoint, claim, staging, validation
from hpcfast.training.loop import Loop
from hpcfast.training.plan import Plan
from hpcfast.training.profile import Profile
from hpcfast.training.state import Run
from hpcfast.training.store import Store


def train(
    config: RunConfig,
    world: World,
    overwrite: bool = False,
    profile: Path | None = None,
    accept_data: bool = False,
) -> dict[str, Any]:
    """Train, or go on with, or report the finished run that ``config`` names; a collective of all ranks.

    Args:
        overwrite: lose what a run of this name left before.
        accept_data: go on with data that have changed since the last checkpoint.
        profile: folder for traces of a few steps (:class:`hpcfast.training.profile.Profile`).

    Returns:
        The run's summary (see docs/run-directory.md).

    Raises:
        UserError: the data or the run directory does not suit ``config`` (nothing has been overwritten), or training
            has diverged.
        Stopped: a signal asked for it; a checkpoint is saved, and the same call goes on from it.
        Interrupted: a signal came while ``data.stage`` copied; the same call copies the rest.
    """
    began = time.time()  # the run's clock starts before the data set is touched
    data = dataset.read(config.data, world, _copied(config, world, overwrite))
    _check_sizes(config, world, data)
    directory = RunDirectory(config.folder)
    with ExitStack() as held:

        def take() -> DataSettings:
            return held.enter_context(claim.claim(config, overwrite))

        before = comm.on_root(take)
        reporter = held.enter_context(Reporter(world.is_root))
        summary = comm.on_root(directory.read_summary)
        if summary:
            data.compare_finished(summary.get("data"), directory.path)
            reporter.say(f"{directory.path} is finished already; summary.json there has its numbers")
            return summary
        stop = held.enter_context(StopRequest("stopping after this batch, with a checkpoint; the same command resumes"))
        writer = held.enter_context(checkpoint.Writer(config.checkpoint.asynchronous))
        for remark in data.remarks:
            reporter.say(remark)
        store = Store(directory.checkpoints, writer, config.checkpoint, reporter.say)
        return _train(Run(config, world, data, reporter, stop, store, began), before, profile, accept_data)


def _copied(config: RunConfig, world: World, overwrite: bool) -> Path | None:
    """The copy of the data on this rank's node; None where training reads ``data.path`` itself, or is done."""
    if config.data.stage is None or comm.on_root(lambda: claim.finished(config, overwrite)):
        return None
    return staging.copy(config.data, world)


def _train(run: Run, before: DataSettings, folder: Path | None, accept_data: bool) -> dict[str, Any]:
    profile = Profile(folder, run.world, run.clock) if folder else None
    run.begin(accept_data, moved=before.path != run.config.data.path)
    if before != run.config.data:  # evaluations look for the data where the run had them last
        comm.on_root(lambda: files.save_text(run.dir.config, run.config.dump()))
    run.clock.switch("other")
    task = run.reporter.task("training", run.course.plan.total_images, "images", done=run.course.position.images)
    loop = Loop(run, task, profile)
    while run.unexamined or not (run.course.finished or run.target_reached):
        if run.unexamined:
            validation.after_epoch(run)
        else:
            loop.train()
    run.compare_ranks()
    run.clock.stop()
    if profile:
        profile.close()
    task.close()
    run.store.wait()
    return validation.finish(run)


def _check_sizes(config: RunConfig, world: World, data: Dataset) -> None:
    """Refuse now what would otherwise fail hours later."""
    images = len(data.train.good)
    confirm = config.evaluation.confirm if config.target else ()
    for check in (config.evaluation.final, *confirm):
        chosen_images(data.val, check, world)
    if (config.evaluation.every or config.guard.every) and len(data.held_out.good) < world.size:
        raise UserError(
            f"data.held_out: {len(data.held_out.good)} training images are held out for the monitor and the guard; "
            f"give {world.size} or more (one a rank), or switch both off: evaluation.every=0 guard.every=0"
        )
    plan = Plan.of(config, images, world.size)
    for phase in plan.phases:
        if images < plan.global_batch(phase):
            raise UserError(
                f"data.path: {config.data.path}/train has {images} images to train on, fewer than one global batch of "
                f"{phase.batch_size} images x {world.size} ranks"
                + (f" x accumulate={plan.accumulate}" if plan.accumulate > 1 else "")
                + f"; lower the batch_size to at most {images // world.size // plan.accumulate}"
                + (", or use fewer ranks" if world.size > 1 else "")
            )
