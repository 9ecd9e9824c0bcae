"""The training loop: batch, attack, loss, one backward, allreduce, step. And where its batches come from."""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from hpcfast.attacks.rng import seed_of
from hpcfast.data import Batch, feed
from hpcfast.data.readahead import Prefetcher
from hpcfast.distributed import comm
from hpcfast.errors import UserError
from hpcfast.runs import files
from hpcfast.runs.progress import Task
from hpcfast.training.losses import Losses
from hpcfast.training.profile import Profile
from hpcfast.training.state import Run


class Loop:
    """Trains a run on, epoch by epoch; whatever it decides, all ranks decide alike, by votes."""

    def __init__(self, run: Run, task: Task, profile: Profile | None = None) -> None:
        self.run, self.task, self._profile = run, task, profile
        self._batches = Batches(run)
        self._vote = comm.Vote()
        self._losses = Losses(self._is_fault)
        self._meter = torch.zeros(2, device=run.world.device)
        """Sum of losses since the last entry of the log, and their number."""
        self._note = ""

    def train(self) -> None:
        """Train until the epoch or the phase ends, a rank is asked to stop, or the loss is no longer a number."""
        run, course = self.run, self.run.course
        with self._epoch():
            for batches in self._batches:
                lr, seed = self._learning_rate(), seed_of(run.config.seed, course.step, run.world.rank)
                with run.clock.step():
                    loss = run.learner.step(batches, run.guard.attack, lr, seed)
                    self._meter += torch.stack((loss, torch.ones_like(loss)))
                    self._look_at(loss, lr, batches)
                course.advance()
                self._show(lr)
                self._agree()
                if self._profile:
                    self._profile.step()

    @contextmanager
    def _epoch(self) -> Iterator[None]:
        """What is around the steps of an epoch: its events, its clock, the comparison of ranks, its checkpoint."""
        run, own = self.run, self.run.clock.own
        self._meter.zero_()
        run.record("epoch_start")
        comm.set_status(run.course.step, "training")
        run.learner.model.train()
        with run.clock.training():
            yield
        run.record("epoch_stop")
        run.compare_ranks(run.clock.own - own)
        run.unexamined |= run.course.enter_next()
        saved = self._act_on(self._vote.count())
        if run.unexamined and not saved:
            self._save()

    def _learning_rate(self) -> float:
        config, course = self.run.config, self.run.course
        factor = config.schedule.factor(course.at, course.epochs)
        return config.optim.scaled_lr(course.global_batch, course.phase.lr) * factor

    def _look_at(self, loss: Tensor, lr: float, batches: tuple[Batch, ...]) -> None:
        """Note a step's loss, and see whether that of the step before was a number."""
        course = self.run.course
        ids = [batch.ids for batch in batches]
        self._losses.note(loss, step=course.step, epoch=course.at, lr=lr, ids=ids)
        self._losses.look(but=1)

    def _is_fault(self, loss: float) -> bool:
        """With loss scaling the step of a loss that is no number is skipped; only many are a fault."""
        scaler = self.run.learner.scaler
        return scaler.exhausted if scaler.enabled else not math.isfinite(loss)

    def _show(self, lr: float) -> None:
        """Tell the log, the progress bar and the watchdog where the run is."""
        course = self.run.course
        comm.set_status(course.step, "training")
        if course.step % self.run.config.log_every == 0:
            self._note = self._log(lr)
        self.task.update(course.position.images, f"epoch {course.at:.1f}/{course.epochs:g}  {self._note}")

    def _log(self, lr: float) -> str:
        """Record means over all ranks since the last call."""
        run, learner = self.run, self.run.learner
        sums = torch.cat((self._meter.double().cpu(), learner.network.take_counts()))
        with run.clock.part("communication"):
            loss, steps, asked, vanished = comm.total(sums).tolist()
        self._meter.zero_()
        run.record("train_loss", loss / steps if math.isfinite(loss) else str(loss))
        run.record("learning_rate", lr)
        if asked:
            run.record("zero_gradients", vanished / asked)
        if learner.scaler.enabled:
            run.record("skipped_steps", learner.scaler.skipped)
        return f"loss {loss / steps:.3f}  lr {lr:.3g}"

    def _agree(self) -> None:
        """Vote on what this rank has seen, and act on the votes of the step before: nobody waits for a vote."""
        run, bad = self.run, self._batches.bad_ahead()
        due = run.world.is_root and run.store.due
        with run.clock.part("communication"):
            votes = self._vote.cast(run.asked_to_stop, due, self._losses.fault is not None, bad)
        self._act_on(votes)

    def _act_on(self, votes: list[int]) -> bool:
        """Do what ranks have voted for: give up, leave images out, save, or stop; whether a checkpoint was saved."""
        if not any(votes):
            return False
        both = zip(votes, self._vote.count() or [0] * len(votes), strict=True)
        stop, save, failed, bad = (before + now for before, now in both)
        if failed:
            self._give_up()
        if bad:
            self._batches.leave_out()
        if not (stop or save):
            return False
        self._save()
        if stop:
            self.run.stop()
        return True

    def _save(self) -> None:
        """Save a checkpoint, unless the loss of a step that was not voted on is no number; a collective."""
        if comm.total(torch.tensor([int(self._losses.look())])).item():
            self._give_up()
        self.run.save()

    def _give_up(self) -> None:
        """End the run, and keep what the loss that is no number came from; a collective."""
        # A loss that is no number spreads with the next allreduce: only the ranks that had it first have caused it.
        rank, mine, folder = self.run.world.rank, self._losses.fault, self.run.dir.failures
        steps = [step for step in comm.gather(mine["step"] if mine else None) if step is not None]

        def accuse() -> None:
            if mine is None or mine["step"] > min(steps):
                return
            names = [self.run.course.split.files[i] for ids in mine.pop("ids") for i in ids.tolist()]
            folder.mkdir(exist_ok=True)
            path = folder / f"step-{mine['step']:08d}-rank-{rank}.json"
            files.save_text(path, json.dumps({"rank": rank, **mine, "files": names}, indent=1) + "\n")
            raise UserError(
                f"training has diverged: the loss is {mine['loss']} at step {mine['step']} (epoch {mine['epoch']:.2f}) "
                f"on rank {rank}; {path} lists its {len(names)} images. Look at them, lower optim.lr "
                f"(now {mine['lr']:.3g}) or lengthen schedule.warmup; the same command runs again from the last "
                f"checkpoint."
            )

        comm.raise_on_all_ranks(accuse)


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
        config, course = self._run.config, self._run.course
        settings = config.data.model_copy(update={"size": course.phase.size})
        shard, key = feed.Shard.of(self._run.world, config.data.threads), seed_of(config.seed, course.epoch)
        batches = feed.batches(course.split, course.order(), settings, shard, course.phase.batch_size, key)
        return zip(*[batches] * config.accumulate, strict=True)
