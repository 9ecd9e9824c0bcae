"""``data.stage``: before it trains, a run copies its pack to a disk of every node's own, and reads it there."""

import os
import re
from pathlib import Path

from hpcfast.data import DataSettings, packed
from hpcfast.datasets.packs import stage
from hpcfast.distributed import comm
from hpcfast.distributed.comm import World
from hpcfast.errors import UserError
from hpcfast.runs.progress import Reporter
from hpcfast.runs.signals import KEPT, at_once


def copy(settings: DataSettings, world: World) -> Path:
    """Copy the pack ``settings.path`` to ``settings.stage`` on every node; a collective of all ranks.

    Returns:
        The copy on this rank's node.

    Raises:
        UserError: on all ranks: the data are no pack, or the copy cannot be made.
        Interrupted: a signal came, see :func:`hpcfast.runs.signals.at_once`; the same call resumes.
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
    return stage.here(Path(os.path.expandvars(folder)) / f"hpcfast-{os.getuid()}" / pack.absolute().name)
