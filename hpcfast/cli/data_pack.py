"""``hpcfast data pack`` and ``hpcfast data stage``: few large files, and copies of them on the nodes' own disks."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from hpcfast.cli import options


@contextmanager
def _stoppable(piece: str) -> Iterator[Callable[[], bool]]:
    """Give a question for after each ``piece`` of work, a collective of all ranks: was any of them asked to stop?"""
    import torch

    from hpcfast.distributed import comm
    from hpcfast.runs.signals import StopRequest

    with StopRequest(f"stopping after this {piece}; the same command resumes") as stop:
        yield lambda: bool(comm.total(torch.tensor([int(stop.requested is not None)])).item())


def pack(
    data: Annotated[Path, typer.Argument(help="folder with train/ and val/, or another pack", show_default=False)],
    out: Annotated[Path, typer.Argument(help="folder to write", show_default=False)],
    shard_mb: Annotated[int, typer.Option(help="size of a shard, million bytes", min=1)] = 256,
    short_side: Annotated[int | None, typer.Option(help="pixels; larger images are resized to it", min=1)] = None,
    seed: Annotated[int, typer.Option(help="of the order in which images are packed", min=0)] = 0,
    json: options.Json = None,
) -> None:
    """Write a data set as a few large files (WebDataset shards), alone or under horovodrun, mpirun or srun.

    Stopped or killed, the same command resumes.
    """
    from hpcfast.datasets.packs import write as packing
    from hpcfast.distributed import comm
    from hpcfast.runs.progress import Reporter
    from hpcfast.runs.signals import Stopped

    world = comm.init()
    with Reporter(visible=world.is_root) as reporter, _stoppable("shard") as asked:
        task = reporter.task(f"pack {data}", None, "images")

        def progress(done: int, total: int) -> None:
            task.update(done, f"of {total:,}")
            if done < total and asked():
                raise Stopped(f"stopped after {done:,} of {total:,} images; the same command resumes")

        manifest = packing.pack(data, out, packing.Recipe(shard_mb, short_side, seed), world, progress)
        task.close()
        shards = manifest["shards"]
        size = sum(shard["tar"]["bytes"] for shard in shards)
        images, left_out = sum(shard["images"] for shard in shards), sum(manifest["left_out"].values())
        reporter.say(f"{out}: {images:,} images in {len(shards):,} shards, {size / 1e6:,.1f} MB, {left_out} left out")
    comm.on_root(lambda: options.write_json(json, manifest))


def stage(
    pack: Annotated[Path, typer.Argument(help="what hpcfast data pack wrote, on the shared disk", show_default=False)],
    to: Annotated[
        Path, typer.Argument(help="folder on a disk of the node's own; {node}: its name", show_default=False)
    ],
    json: options.Json = None,
) -> None:
    """Copy a pack to every node's own disk, reading it once, alone or under mpirun, srun or horovodrun --mpi.

    Stopped or killed, the same command resumes.
    """
    from hpcfast.datasets.packs import stage as staging
    from hpcfast.distributed import comm
    from hpcfast.runs.progress import Reporter
    from hpcfast.runs.signals import Stopped

    world = comm.init()
    with Reporter(visible=world.is_root) as reporter, _stoppable("file") as asked:
        task = reporter.task(f"stage {pack}", None, "bytes")

        def progress(sent: int) -> None:
            task.update(sent)
            if asked():
                raise Stopped(f"stopped after {sent:,} bytes; the same command resumes")

        done = staging.stage(pack, to, world, progress)
        task.close()
        read, size = done["bytes_read"] / 1e6, done["bytes"] / 1e6
        reporter.say(f"{to}: {size:,.1f} MB on {len(done['nodes'])} nodes, {read:,.1f} MB read from {pack}")
    comm.on_root(lambda: options.write_json(json, done))
