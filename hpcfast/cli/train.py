"""``hpcfast train``."""

import itertools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hpcfast.cli import imports, options
from hpcfast.errors import UserError

if TYPE_CHECKING:
    from hpcfast.distributed.comm import World


def command(
    config: options.Config,
    overrides: options.Overrides = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="lose what a run of this name left before")] = False,
    elastic: Annotated[
        bool, typer.Option("--elastic", help="go on with the ranks that are left, or that come (horovodrun --min-np)")
    ] = False,
    accept_data: Annotated[
        bool, typer.Option("--accept-data", help="resume although the data have changed since the last checkpoint")
    ] = False,
    profile: Annotated[
        Path | None, typer.Option("--profile", help="empty folder for traces of a few steps, torch's and Horovod's")
    ] = None,
    json: options.Json = None,
) -> None:
    """Train CONFIG, alone or as one rank of horovodrun or mpirun; the same command again goes on where it stopped."""
    with imports.quick():
        from hpcfast.config import load
        from hpcfast.distributed import comm
        from hpcfast.training import train  # noqa: F401 - used below, once the ranks have met

    if profile:
        os.environ["HOROVOD_TIMELINE"] = "DYNAMIC"  # Horovod looks when it starts
    try:
        allreduce = load(config, overrides).allreduce
    except UserError:
        allreduce = None  # the ranks must meet first, so that they can report it together
    if not elastic:
        _train(comm.init(allreduce), config, overrides, overwrite, accept_data, profile, json)
        return
    attempts = itertools.count()

    def attempt() -> None:
        first = next(attempts) == 0
        _train(comm.join(), config, overrides, overwrite and first, accept_data, profile if first else None, json)

    comm.elastically(attempt, allreduce)


def _train(
    world: "World",
    config: Path,
    overrides: list[str] | None,
    overwrite: bool,
    accept_data: bool,
    profile: Path | None,
    json: Path | None,
) -> None:
    from hpcfast.config import load
    from hpcfast.distributed import comm
    from hpcfast.training import train

    run_config = comm.raise_on_all_ranks(lambda: load(config, overrides))
    summary = train.train(run_config, world, overwrite, profile, accept_data)
    if world.is_root:
        low, high = summary["ci95"]["robust_accuracy"]
        print(
            f"{run_config.folder}: clean {summary['clean_accuracy']:.3f}, robust {summary['robust_accuracy']:.3f} "
            f"(95 % interval {low:.3f} to {high:.3f}, {summary['attack']['name']}, {summary['n_eval']} images)"
        )
    comm.on_root(lambda: options.write_json(json, summary))
