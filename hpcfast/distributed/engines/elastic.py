"""Elastic Horovod: the job goes on when a rank is lost, and takes in ranks that come.

Under ``horovodrun --min-np … --host-discovery-script …``. Whoever is left begins anew, in the same processes, from
the last checkpoint on disk: a checkpoint holds the whole state, for any number of ranks.
"""

from collections.abc import Callable
from typing import TypeVar

import horovod.torch as hvd
from horovod.common.elastic import State

from hpcfast.distributed.engines.horovod import Horovod, slow_down

T = TypeVar("T")


class _Members(State):
    """Hears of hosts that come and go. There is no state to keep here: checkpoints have it."""

    def __init__(self) -> None:
        super().__init__(bcast_object=hvd.broadcast_object, get_rank=hvd.rank)

    def save(self) -> None: ...

    def restore(self) -> None: ...

    def sync(self) -> None: ...


class ElasticHorovod(Horovod):
    """Ranks whose number may change."""

    def __init__(self) -> None:
        slow_down()
        hvd.init()
        self.look()
        self._members = _Members()

    def run(self, work: Callable[[], T]) -> T:
        """Call ``work``, again each time the number of ranks has changed."""
        attempt: Callable[[_Members], T] = hvd.elastic.run(lambda members: work())
        return attempt(self._members)

    def commit(self) -> None:
        self._members.check_host_updates()
