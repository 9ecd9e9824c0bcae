"""The training loop: batch, attack, loss, one backward, allreduce, step."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from hpcfast.attacks.rng import seed_of
from hpcfast.data import Batch, dali
from hpcfast.data.order import train_order
from hpcfast.data.readahead import Prefetcher
from hpcfast.distributed import comm
from hpcfast.runs.progress import Task
from hpcfast.training import divergence
from hpcfast.training.divergence import NonFiniteLoss
from hpcfast.training.profile import Profile
from hpcfast.training.state import Run


class Loop:
    """Trains a run on, epoch by epoch; whatever it decides, all ranks decide alike, by votes."""

    def __init__(self, run: Run, task: Task, profile: Profile | None = None) -> None:
        self.run, self.task, self._profile = run, task, profile
        self._vote = comm.Vote()
        self._failed: NonFiniteLoss | None = None
        self._prefetcher: Prefetcher[tuple[Batch, ...]] | None = None
        """Where this rank's batches come from; None where they must be dealt out anew."""

    def train(self) -> None:
        """Train until the epoch or the phase ends.

        Raises:
            Stopped: a rank was asked to stop; a checkpoint is saved.
            UserError: the loss is no longer a number.
        """
        run = self.run
        meter, note = torch.zeros(2, device=run.world.device), ""
        run.record("epoch_start")
        run.learner.model.train()
        own = run.clock.own
        with run.clock.training():
            for batches in self._steps():
                comm.set_status(run.position.step, "training")
                lr = self._learning_rate()
                with run.clock.step():
                    loss = run.learner.step(batches, run.guard.attack, lr, self._seed())
                    meter += torch.stack((loss, torch.ones_like(loss)))
                    self._look_at(loss, lr, batches)
                run.position = run.plan.advance(run.position)
                run.images += sum(len(batch.y) for batch in batches) * run.world.size
                if run.position.step % run.config.log_every == 0:
                    note = self._log(meter, lr)
                self.task.update(
                    run.position.images, f"epoch {run.plan.at(run.position):.1f}/{run.plan.epochs:g}  {note}"
                )
                with run.clock.part("data_wait"):
                    bad = self._prefetcher is not None and self._prefetcher.peek()
                with run.clock.part("communication"):
                    votes = self._vote.cast(run.asked_to_stop, run.checkpoint_due, self._failed is not None, bad)
                self._act_on(votes)
                if self._profile:
                    self._profile.step()
        run.record("epoch_stop")
        run.compare_ranks(run.clock.own - own)
        run.advance()
        saved = self._act_on(self._vote.count())
        if run.unexamined and not saved:
            run.save()

    def _steps(self) -> Iterator[tuple[Batch, ...]]:
        """The batches of each step that is left of the epoch or phase, dealt out anew where bad images were found.

        A vote is counted one step later: hence each rank looks two steps ahead, and none trains on less than a batch.
        """
        while self._prefetcher is None:
            with self.run.clock.part("data_wait"):
                self._prefetcher = Prefetcher(self._batches())
            self._leave_out()
            while self._prefetcher is not None and (batches := self._prefetcher.take()):
                yield batches
        self._prefetcher = None

    def _leave_out(self) -> None:
        """Leave out the bad images that any rank sees ahead, and have the rest dealt out anew; a collective."""
        found = comm.gather({} if self._prefetcher is None else self._prefetcher.faults)
        if any(found):
            self._prefetcher = None
            self.run.leave_out({image: fault for faults in found for image, fault in faults.items()})

    def _batches(self) -> "zip[tuple[Batch, ...]]":
        """What is left of the epoch or phase; each item holds the batches of one step."""
        run, config = self.run, self.run.config
        phase, epoch = run.plan.phase(run.position), run.position.epoch
        order = train_order(
            len(run.train_split),
            config.seed,
            epoch,
            run.world.size,
            phase.batch_size * config.accumulate,
            done=run.position.offset,
            steps=run.plan.steps(run.position),
            skips=run.train_split.skips,
        )
        settings = config.data.model_copy(update={"size": phase.size})
        shard = dali.Shard.of(run.world, config.data.threads)
        batches = dali.batches(run.train_split, order, settings, shard, phase.batch_size, seed_of(config.seed, epoch))
        return zip(*[batches] * config.accumulate, strict=True)

    def _learning_rate(self) -> float:
        run, phase = self.run, self.run.plan.phase(self.run.position)
        factor = run.config.schedule.factor(run.plan.at(run.position), run.plan.epochs)
        return run.config.optim.scaled_lr(run.plan.global_batch(phase), phase.lr) * factor

    def _seed(self) -> int:
        return seed_of(self.run.config.seed, self.run.position.step, self.run.world.rank)

    def _look_at(self, loss: Tensor, lr: float, batches: tuple[Batch, ...]) -> None:
        """NonFiniteLoss a loss that is no number. With loss scaling such a step is skipped; only many are a fault."""
        value, scaler = loss.item(), self.run.learner.scaler  # the step has waited for the device already
        if self._failed is None and (scaler.exhausted if scaler.enabled else not math.isfinite(value)):
            files = [self.run.train_split.files[i] for batch in batches for i in batch.ids.tolist()]
            at = self.run.plan.at(self.run.position)
            self._failed = NonFiniteLoss(self.run.world.rank, self.run.position.step, at, str(value), lr, files)

    def _act_on(self, votes: list[int]) -> bool:
        """Do what ranks have voted for: leave images out, give up because of a suspect, save, or stop.

        Returns:
            Whether a checkpoint was saved.
        """
        if not any(votes):
            return False
        both = zip(votes, self._vote.count() or [0] * len(votes), strict=True)
        stop, save, suspects, bad = (before + now for before, now in both)
        if suspects:
            divergence.end(self.run.dir, self._failed)
        if bad:
            self._leave_out()
        if not (stop or save):
            return False
        self.run.save()
        if stop:
            self.run.stop()
        return True

    def _log(self, meter: Tensor, lr: float) -> str:
        """Record means over all ranks since the last call, and reset ``meter``."""
        learner = self.run.learner
        sums = torch.cat((meter.double().cpu(), learner.network.take_counts()))
        with self.run.clock.part("communication"):
            loss, steps, asked, vanished = comm.total(sums).tolist()
        meter.zero_()
        self.run.record("train_loss", loss / steps if math.isfinite(loss) else str(loss))
        self.run.record("learning_rate", lr)
        if asked:
            self.run.record("zero_gradients", vanished / asked)
        if learner.scaler.enabled:
            self.run.record("skipped_steps", learner.scaler.skipped)
        return f"loss {loss / steps:.3f}  lr {lr:.3g}"
