"""The claim of a run: who may write into its directory, and what is there already."""

import difflib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from hpcfast.config import RunConfig, read_run
from hpcfast.errors import UserError
from hpcfast.runs import files, lock
from hpcfast.runs.directory import RunDirectory


@contextmanager
def claim(config: RunConfig, overwrite: bool) -> Iterator[None]:
    """Make or reopen the run directory of ``config`` and hold it for this block.

    Raises:
        UserError: it cannot be written, another process is using it, or it holds a run of another configuration
            and ``overwrite`` is false.
    """
    run = RunDirectory(config.folder)
    taken = "is in use by another process; wait for it or give another name="
    with lock.held(run.path, "run directory", "set runs= to a folder you may write", taken):
        _refuse_strangers(run, config, overwrite)
        if overwrite:
            _clear(run)
        _clean(run)
        if not run.config.is_file():
            files.save_text(run.config, config.dump())
        yield


def _refuse_strangers(run: RunDirectory, config: RunConfig, overwrite: bool) -> None:
    if not run.config.is_file():
        # Of a run that was killed as it began there may be more than a lock.
        if any(not lock.is_ours(path.name) and not files.is_part(path.name) for path in run.path.iterdir()):
            raise UserError(f"{run.path} holds files but no run; give another name= or empty the folder")
    elif not overwrite and _comparable(read_run(run)) != _comparable(config):
        old, new = run.config.read_text().splitlines(), config.dump().splitlines()
        changes = [line for line in difflib.unified_diff(old, new, lineterm="", n=0) if line[:1] in "+-"]
        shown = "\n".join(f"  {line}" for line in changes[2:12])
        raise UserError(
            f"{run.path} holds a run of another configuration (-: there, +: given):\n{shown}\n"
            f"Give another name= to keep both, or --overwrite to lose the old run."
        )


def _comparable(config: RunConfig) -> RunConfig:
    return config.model_copy(update={"runs": None})  # a run may be moved


def _clean(run: RunDirectory) -> None:
    """Remove what a kill has left of the files that only the run writes."""
    names = {path.name for path in (run.config, run.weights, run.model, run.summary, run.skips)}
    for path in run.path.iterdir():
        if files.is_part(path.name) and path.name.rsplit(".", 2)[0] in names:
            path.unlink(missing_ok=True)


def _clear(run: RunDirectory) -> None:
    """Remove what a run writes, and nothing else."""
    for folder in (run.checkpoints, run.evaluations, run.figures, run.failures):
        shutil.rmtree(folder, ignore_errors=True)
    written = (run.summary, run.skips, run.explain, run.report, run.model, run.weights, run.events, run.config)
    for file in written:  # the config last: it claims the rest
        file.unlink(missing_ok=True)
