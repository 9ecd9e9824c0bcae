"""Elastic Horovod: the job goes on when a rank is lost, and takes in ranks that come.

Under ``horovodrun --min-np … --host-discovery-script …``. Whoever is left begins anew, in the same processes, from
the last checkpoint on disk: a checkpoint holds the whole state, for any number of ranks.
"""

import os
from collections.abc import Callable
from typing import TypeVar

import horovod.torch as hvd
from horovod.common.elastic import State

from hpcfast.distributed.gradients import slow_down
from hpcfast.errors import UserError

T = TypeVar("T")


class _Members(State):
    """Hears of hosts that come and go. There is no state to keep here: checkpoints have it."""

    def __init__(self) -> None:
        super().__init__(bcast_object=hvd.broadcast_object, get_rank=hvd.rank)

    def save(self) -> None: ...

    def restore(self) -> None: ...

    def sync(self) -> None: ...


_members: _Members | None = None


def elastically(work: Callable[[], T]) -> T:
    """Run ``work`` on all ranks there are, from its beginning again each time their number has changed.

    Ranks that join begin with ``work`` too, so no collective may come before it.

    Raises:
        UserError: the job was not started elastically.
    """
    global _members
    if os.environ.get("HOROVOD_ELASTIC") != "1":
        raise UserError("--elastic: start the job with horovodrun --min-np N --host-discovery-script FILE")
    slow_down()
    hvd.init()
    _members = _Members()
    attempt: Callable[[_Members], T] = hvd.elastic.run(lambda members: work())
    return attempt(_members)


def commit() -> None:
    """Where a checkpoint has just been saved: begin anew if ranks want to join or must leave; a collective.

    Does nothing in a job that is not elastic.
    """
    if _members:
        _members.check_host_updates()
