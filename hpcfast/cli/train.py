"""``hpcfast train``."""

import itertools
import os
from pathlib import Path
from typing import Annotated

import typer

from hpcfast import foreign
from hpcfast.cli import options

EXAMPLES = options.examples(
    "hpcfast train configs/digits_l2.yaml",
    "horovodrun -np 2 hpcfast train configs/digits_l2.yaml epochs=10 threat.eps=1.5",
)


@foreign.trusting()
def command(
    config: options.Config,
    overrides: options.Overrides = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="delete an earlier run of this name")] = False,
    elastic: Annotated[
        bool, typer.Option("--elastic", help="continue when ranks leave or join (horovodrun --min-np)")
    ] = False,
    accept_data: Annotated[
        bool, typer.Option("--accept-data", help="resume although the data have changed since the last checkpoint")
    ] = False,
    profile: Annotated[
        Path | None, typer.Option("--profile", help="empty folder for traces of a few steps, torch's and Horovod's")
    ] = None,
    json: options.Json = None,
) -> None:
    """Train CONFIG, alone or as one rank of horovodrun or mpirun; the same command again resumes it."""
    with options.quick_imports():
        from hpcfast.config import engine, load
        from hpcfast.distributed import comm
        from hpcfast.training import train

    if profile:
        os.environ["HOROVOD_TIMELINE"] = "DYNAMIC"  # Horovod looks when it starts

    def run(world: comm.World, first: bool = True) -> None:
        run_config = comm.raise_on_all_ranks(lambda: load(config, overrides))
        summary = train.train(run_config, world, overwrite and first, profile if first else None, accept_data)
        if world.is_root:
            low, high = summary["ci95"]["robust_accuracy"]
            print(
                f"{run_config.folder}: clean {summary['clean_accuracy']:.3f}, robust {summary['robust_accuracy']:.3f} "
                f"(95 % interval {low:.3f} to {high:.3f}, {summary['attack']['name']}, {summary['n_eval']} images)"
            )
        comm.on_root(lambda: options.write_json(json, summary))

    if elastic:
        attempts = itertools.count()
        comm.elastically(lambda: run(first=next(attempts) == 0, world=comm.join()))
    else:
        run(comm.init(engine(config, overrides)))
