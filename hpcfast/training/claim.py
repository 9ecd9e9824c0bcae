"""The claim of a run: who may write into its directory, and what is there already."""

import difflib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from hpcfast.config import RunConfig, read_run
from hpcfast.data import DataSettings
from hpcfast.errors import UserError
from hpcfast.runs import files, lock
from hpcfast.runs.directory import RunDirectory


@contextmanager
def claim(config: RunConfig, overwrite: bool) -> Iterator[DataSettings]:
    """Make or reopen the run directory of ``config`` and hold it for this block.

    Yields:
        The data settings in the run directory's ``config.yaml``: the data may have moved since.

    Raises:
        UserError: it cannot be written, another process is using it, or it holds a run of another configuration
            and ``overwrite`` is false.
    """
    run = RunDirectory(config.folder)
    taken = "is in use by another process; wait for it or give another name="
    with lock.held(run.path, "run directory", "set runs= to a folder you may write", taken):
        before = config.data
        if not run.config.is_file():
            names = [path.name for path in run.path.iterdir()]
            # Of a run that was killed as it began there may be more than a lock.
            if not all(name.startswith(lock.FILE) or name.endswith(files.PART) for name in names):
                raise UserError(f"{run.path} holds files but no run; give another name= or empty the folder")
        elif not overwrite:
            before = _refuse_others(run, config)
        if overwrite:
            _clear(run)
        _clean(run)
        if not run.config.is_file():
            files.save_text(run.config, config.dump())
        yield before


def finished(config: RunConfig, overwrite: bool) -> bool:
    """Whether nothing is to be done for ``config``, asked before costly work; refuses what :func:`claim` does."""
    run = RunDirectory(config.folder)
    if overwrite or not run.config.is_file():
        return False
    _refuse_others(run, config)
    return run.summary.is_file()


def state(config: RunConfig) -> Literal["none", "unfinished", "finished", "other"]:
    """What the run directory of ``config`` holds."""
    run = RunDirectory(config.folder)
    if not run.config.is_file():
        return "none"
    try:
        return "finished" if finished(config, overwrite=False) else "unfinished"
    except UserError:
        return "other"


def _refuse_others(run: RunDirectory, config: RunConfig) -> DataSettings:
    """Refuse a run of another configuration; of one that may be resumed, return the data settings."""
    before, summary = read_run(run), run.read_summary()
    # A run may be moved, and so may its data, which it knows by content; earlier versions noted nothing.
    path = config.data.path if summary is None or "data" in summary else before.data.path
    data = before.data.model_copy(update={"path": path, "stage": config.data.stage})
    same = {"engine": config.engine, "trackers": config.trackers}  # whatever the run computes
    moved = before.model_copy(update={"runs": config.runs, "data": data, **same})
    if moved.settled != config.settled:
        old, new = moved.dump().splitlines(), config.dump().splitlines()
        changes = [line for line in difflib.unified_diff(old, new, lineterm="", n=0) if line[:1] in "+-"]
        shown = "\n".join(f"  {line}" for line in changes[2:12])
        raise UserError(
            f"{run.path} holds a run of another configuration (-: there, +: given):\n{shown}\n"
            f"Give another name= to keep both, or --overwrite to lose the old run."
        )
    return before.data


def _clean(run: RunDirectory) -> None:
    """Remove what a kill has left of the files that only the run writes."""
    names = {path.name for path in (run.config, run.weights, run.model, run.summary, run.skips)}
    for path in run.path.iterdir():
        if path.name.endswith(files.PART) and path.name.rsplit(".", 2)[0] in names:
            path.unlink(missing_ok=True)


def _clear(run: RunDirectory) -> None:
    """Remove what a run writes, and nothing else."""
    for folder in (run.checkpoints, run.evaluations, run.figures, run.failures, run.stacks, run.trackers):
        shutil.rmtree(folder, ignore_errors=True)
    written = (run.summary, run.skips, run.explain, run.report, run.model, run.weights, run.events, run.config)
    for file in written:  # the config last: it claims the rest
        file.unlink(missing_ok=True)
