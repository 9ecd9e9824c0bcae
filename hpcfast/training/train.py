"""``hpcfast train CONFIG``, alone or under horovodrun or mpirun: from a configuration to a model."""

import os
import re
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from hpcfast import foreign
from hpcfast.config import RunConfig
from hpcfast.data import DataSettings, dataset, feed, packed, resident
from hpcfast.data.dataset import Dataset
from hpcfast.datasets.packs import stage
from hpcfast.distributed import comm
from hpcfast.distributed.comm import World
from hpcfast.errors import UserError
from hpcfast.evaluation import chosen_images
from hpcfast.models import fitting
from hpcfast.runs import files, trackers
from hpcfast.runs.directory import RunDirectory
from hpcfast.runs.progress import Reporter
from hpcfast.runs.signals import KEPT, StopRequest, at_once
from hpcfast.training import claim, validation
from hpcfast.training.course import Course
from hpcfast.training.loop import Loop
from hpcfast.training.profile import Profile
from hpcfast.training.state import Run


def train(
    config: RunConfig, world: World, overwrite: bool = False, profile: Path | None = None, accept_data: bool = False
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
    _check_code(comm.gather(foreign.imported(config.dump())))
    comm.on_root(lambda: trackers.require(config.trackers))
    staged = config.data.stage is not None and not comm.on_root(lambda: claim.finished(config, overwrite))
    data = dataset.read(config.data, world, copy_data(config.data, world) if staged else None)
    _check_sizes(config, world, data)
    directory = RunDirectory(config.folder)
    with ExitStack() as held:
        taken = comm.on_root(lambda: held.enter_context(claim.claim(config, overwrite)).model_dump(mode="json"))
        before = DataSettings.model_validate(taken)
        comm.leave_traces(directory.stacks)
        reporter = held.enter_context(Reporter(world.is_root))
        summary = comm.on_root(directory.read_summary)
        if summary:
            data.compare_finished(summary.get("data"), directory.path)
            reporter.say(f"{directory.path} is finished already; summary.json there has its numbers")
            return summary
        stop = held.enter_context(StopRequest("stopping after this batch, with a checkpoint; the same command resumes"))
        for remark in (*data.remarks, *feed.remarks(data.train, config.data)):
            reporter.say(remark)
        run = Run(config, world, data, reporter, stop, began)
        held.enter_context(run.store)
        if late := config.schedule.late(run.course.epochs):
            reporter.say(f"schedule: the run ends after {run.course.epochs:g} epochs, before {', '.join(late)}")
        traces = Profile(profile, world, run.clock) if profile else None
        run.begin(accept_data, moved=before.path != config.data.path)
        run.say_interval()
        if before != config.data:  # evaluations look for the data where the run had them last
            comm.on_root(lambda: files.save_text(run.dir.config, config.dump()))
        followers = held.enter_context(run.followers())
        with run.ends():
            summary = _train(run, traces)
        followers.finish(summary)
        return summary


def _train(run: Run, profile: Profile | None) -> dict[str, Any]:
    run.clock.switch("other")
    task = run.reporter.task("training", run.course.total_images, "images", done=run.course.position.images)
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


def _check_code(everyone: list[dict[str, dict[str, str]]]) -> None:
    """Refuse code of the user's own that is not the same on all ranks."""
    for rank, theirs in enumerate(everyone):
        for name, code in theirs.items():
            if code["sha256"] != everyone[0][name]["sha256"]:
                raise UserError(f"'{name}': {code['file']} of rank {rank} is another file than rank 0's; copy it there")


def _check_sizes(config: RunConfig, world: World, data: Dataset) -> None:
    """Refuse now what would otherwise fail hours later."""
    confirm = config.evaluation.confirm if config.target else ()
    for check in (config.evaluation.final, *confirm):
        chosen_images(data.val, check, world)
    if (config.evaluation.every or config.guard.every) and len(data.held_out.good) < world.size:
        raise UserError(
            f"data.held_out: {len(data.held_out.good)} training images are held out for the monitor and the guard; "
            f"give {world.size} or more (one a rank), or switch both off: evaluation.every=0 guard.every=0"
        )
    kept = data.train, data.held_out, data.val
    sharers = comm.engine().local_size if world.device.type == "cpu" else 1
    comm.raise_on_all_ranks(lambda: resident.check(kept, config.data, world.device, sharers))
    course = Course(data.train, config, world.size)
    for phase in course.phases:
        if course.good < course.global_batch_of(phase):
            raise UserError(
                f"data.path: {config.data.path}/train has {course.good} images to train on, fewer than one "
                f"global batch of {phase.batch_size} images x {world.size} ranks"
                + (f" x accumulate={config.accumulate}" if config.accumulate > 1 else "")
                + f"; lower the batch_size to at most {course.good // world.size // config.accumulate}"
                + (", or use fewer ranks" if world.size > 1 else "")
            )
    if wrong := [*config.schedule.problems(course.epochs)]:
        raise UserError("\n".join(f"schedule.{problem}" for problem in wrong))
    if not comm.on_root(lambda: RunDirectory(config.folder).config.is_file()):  # else it has trained already
        sizes = {config.data.size, *(phase.size for phase in course.phases)}
        batch, channels = min(phase.batch_size for phase in course.phases), config.data.channels
        comm.raise_on_all_ranks(lambda: fitting.check(config.model, len(data.train.classes), channels, sizes, batch))


def copy_data(settings: DataSettings, world: World) -> Path:
    """Copy the pack ``settings.path`` to ``settings.stage`` on every node; return this node's. A collective.

    Raises:
        UserError: on all ranks: the data are no pack, or the copy cannot be made.
        Interrupted: a signal came; the same call resumes.
    """
    pack = settings.path
    place = comm.raise_on_all_ranks(lambda: _place(str(settings.stage), pack))
    with Reporter(world.is_root) as reporter, at_once(KEPT, resumes=True):
        task = reporter.task(f"stage {pack}", None, "bytes")
        done = stage.stage(pack, place, world, task.update, "data.stage")
        task.close()
        reporter.say(stage.sentence(pack, place, done))
    return place


def _place(folder: str, pack: Path) -> Path:
    """Where the copy of ``pack`` lies for this rank: every user has a folder of their own in ``folder``."""
    if not packed.is_pack(pack):
        raise UserError(
            f"data.stage: {pack} is no pack, and only packs are copied to nodes; make one with 'hpcfast data pack', or "
            f"leave data.stage out"
        )
    unset = [name for name in re.findall(r"\$\{?(\w+)", folder) if not os.environ.get(name)]
    if unset:
        raise UserError(
            f"data.stage: {folder}: {unset[0]} is not set on node {stage.this_node()}; set it in the job, or name a "
            f"folder on every node's own disk, e.g. data.stage=/tmp"
        )
    return stage.own_folder(stage.here(Path(os.path.expandvars(folder))), "data.stage") / pack.absolute().name
