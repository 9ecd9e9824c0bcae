"""``hpcfast train``."""

from typing import Annotated

import typer

from hpcfast.cli import options
from hpcfast.errors import UserError


def command(
    config: options.Config,
    overrides: options.Overrides = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="lose what a run of this name left before")] = False,
    json: options.Json = None,
) -> None:
    """Train CONFIG, alone or as one rank of horovodrun or mpirun; the same command again goes on where it stopped."""
    from hpcfast import comm, train
    from hpcfast.config import load

    try:
        allreduce = load(config, overrides).allreduce
    except UserError:
        allreduce = None  # the ranks must meet first, so that they can report it together
    world = comm.init(allreduce)
    run_config = comm.together(lambda: load(config, overrides))
    summary = train.train(run_config, world, overwrite)
    if world.is_root:
        low, high = summary["ci95"]["robust_accuracy"]
        print(
            f"{run_config.folder}: clean {summary['clean_accuracy']:.3f}, robust {summary['robust_accuracy']:.3f} "
            f"(95 % interval {low:.3f} to {high:.3f}, {summary['attack']['name']}, {summary['n_eval']} images)"
        )
    comm.on_root(lambda: options.write_json(json, summary))
