"""The batches of an epoch: read ahead, and sharded anew where bad images are found."""

from collections.abc import Iterator

from hpcfast.attacks.rng import seed_of
from hpcfast.data import Batch, dali
from hpcfast.data.order import train_order
from hpcfast.data.readahead import Prefetcher
from hpcfast.distributed import comm
from hpcfast.training.state import Run


class Batches:
    """What is left of the present epoch or phase of ``run``: for each step its batches, ``accumulate`` of them.

    A vote is counted one step later: hence each rank looks two steps ahead, and none trains on less than a batch.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._prefetcher: Prefetcher[tuple[Batch, ...]] | None = None
        """None where the images that are left must be sharded anew."""

    def __iter__(self) -> Iterator[tuple[Batch, ...]]:
        while self._prefetcher is None:
            with self._run.clock.part("data_wait"):
                self._prefetcher = Prefetcher(self._read())
            self.leave_out()
            while self._prefetcher is not None and (batches := self._prefetcher.take()):
                yield batches
        self._prefetcher = None

    def bad_ahead(self) -> bool:
        """Whether this rank has found bad images ahead."""
        with self._run.clock.part("data_wait"):
            return self._prefetcher is not None and self._prefetcher.peek()

    def leave_out(self) -> None:
        """Leave out the bad images that any rank has found ahead, and have the rest sharded anew; a collective."""
        found = comm.gather({} if self._prefetcher is None else self._prefetcher.faults)
        if any(found):
            self._prefetcher = None
            self._run.leave_out({image: fault for faults in found for image, fault in faults.items()})

    def _read(self) -> "zip[tuple[Batch, ...]]":
        run, config, course = self._run, self._run.config, self._run.course
        phase, epoch = course.phase, course.epoch
        order = train_order(
            len(course.split),
            config.seed,
            epoch,
            run.world.size,
            phase.batch_size * config.accumulate,
            done=course.position.offset,
            steps=course.steps,
            skips=course.split.skips,
        )
        settings = config.data.model_copy(update={"size": phase.size})
        shard = dali.Shard.of(run.world, config.data.threads)
        batches = dali.batches(course.split, order, settings, shard, phase.batch_size, seed_of(config.seed, epoch))
        return zip(*[batches] * config.accumulate, strict=True)
