"""A run: its state on this rank, and how that is saved and taken up again.

Every random number of a run is a function of (seed, epoch or step, image or rank), and all ranks hold equal
weights after every step: a checkpoint of rank 0's is the whole state. (With Adasum the optimizers' states differ;
what goes on from a checkpoint then goes on with rank 0's.)
"""

from dataclasses import asdict, replace
from typing import Any, NoReturn

import torch

from hpcfast.config import RunConfig
from hpcfast.data import Batch, skips
from hpcfast.data.dataset import Dataset
from hpcfast.data.order import resume_offset
from hpcfast.distributed import comm
from hpcfast.distributed.comm import World
from hpcfast.errors import UserError
from hpcfast.runs import events, files
from hpcfast.runs.clock import Clock
from hpcfast.runs.directory import RunDirectory
from hpcfast.runs.progress import Reporter
from hpcfast.runs.signals import Stopped, StopRequest
from hpcfast.training import profile
from hpcfast.training.guard import Guard
from hpcfast.training.plan import Plan, Position
from hpcfast.training.rank_stats import RankStats
from hpcfast.training.step import Learner
from hpcfast.training.store import Store


class Run:
    """What is needed to train, and how far it is."""

    def __init__(
        self,
        config: RunConfig,
        world: World,
        data: Dataset,
        reporter: Reporter,
        stop: StopRequest,
        store: Store,
        began: float,
    ) -> None:
        """``began``: when this process turned to the run (seconds since 1970); of the first, the clock's start."""
        self.config, self.world, self.reporter = config, world, reporter
        self.data, self.train_split = data, data.train
        self._listed = frozenset(self.train_split.skips)
        self.dir = RunDirectory(config.folder)
        self.plan = Plan.of(config, len(self.train_split.good), world.size)
        self._stop, self.store = stop, store
        past = events.read(self.dir.events) if world.is_root else []
        self._log = events.EventLog(self.dir.events if world.is_root else None)
        self._log.write("init_start", step=0, epoch=0, at=began)
        self._requeued = any(event["key"] == "run_start" for event in past)
        # What follows is the run's state.
        self.clock = Clock(past[0]["time"] if past else began, profile.mark_of(world.device))
        self.learner = Learner(config, len(self.train_split.classes), world, self.clock)
        self.guard = Guard(config)
        self.rank_stats = RankStats(world)
        self._stragglers_said = False
        self.position = Position()
        self.unexamined = False
        """An epoch has ended, or the run, and its checks are still to be made."""
        self.images = 0
        """Trained on in all, those of steps that were undone too."""
        self.target_reached: float | None = None
        """When it was (seconds of the wall clock)."""

    def begin(self, accept_data: bool = False) -> None:
        """Take up the last checkpoint where there is one, and save the first where there is none.

        Raises:
            UserError: the data have changed since then, and ``accept_data`` is false.
        """
        state, healthy = self.store.load_last()
        if state is not None:
            if said := self.data.compare(state.get("data"), self.dir.path, accept_data):
                self.reporter.say(said)
                self.record("data_changed", said)
                state["skips"] = {}  # their ids may be other images' now; bad images are found again
            self.load_state_dict(state)
            self.rank_stats.load_state_dict(state.get("survey", {}))
        elif self._requeued:
            self.clock.load_state_dict({})
        self.record("init_stop")
        where = {"world_size": self.world.size, "device": str(self.world.device)}
        self.record("requeue" if self._requeued else "run_start", where)
        if state is None:
            self.save()
            self.store.mark_healthy()
            return
        self.unexamined &= not healthy
        self.advance()
        if self.position.step == 0:  # killed between the two calls above
            self.store.mark_healthy()
        same = state["world_size"] == self.world.size
        ranks = "" if same else f", now on {self.world.size} ranks instead of {state['world_size']}"
        done = f"{self.plan.at(self.position):.4g}/{self.plan.epochs:g}"
        self.reporter.say(f"going on with {self.dir.path} after epoch {done}{ranks}")

    def advance_by(self, batches: tuple[Batch, ...]) -> None:
        """Count a step on ``batches``."""
        self.position = self.plan.advance(self.position)
        self.images += sum(len(batch.y) for batch in batches) * self.world.size

    def advance(self) -> None:
        """Enter the next epoch or phase where it is time; an epoch that ends, or the run, awaits its checks."""
        before = self.position
        self.position = self.plan.enter_next(before)
        ended = self.plan.finished(self.position) and not self.plan.finished(before)
        self.unexamined |= ended or self.position.epoch > before.epoch

    def save(self) -> None:
        """Save a checkpoint; a collective.

        Raises:
            UserError: on all ranks, if the disk is full or weights are no longer numbers.
        """
        self.record("checkpoint_start")
        with self.clock.part("checkpoint"):
            self.store.save(self.position.step, self.state_dict)
        self.record("checkpoint_stop")
        comm.commit()

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to resume.

        Raises:
            UserError: training has diverged.
        """
        if not self.learner.finite():
            raise UserError(
                f"training has diverged: at step {self.position.step} weights are no longer finite. Lower optim.lr "
                f"(now {self.config.optim.lr}) or lengthen schedule.warmup; the last checkpoint is as it was."
            )
        return {
            "learner": self.learner.state_dict(),
            "guard": self.guard.history,
            "position": asdict(self.position),
            "data": self.data.state(),
            "skips": dict(self.train_split.skips),
            "unexamined": self.unexamined,
            "images": self.images,
            "trained_seconds": (self.clock.trained, self.clock.trained_cpu),
            "clock": self.clock.state_dict(),
            "survey": self.rank_stats.state_dict(),
            "target_reached": self.target_reached,
            "world_size": self.world.size,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Become what ``state`` was."""
        self.learner.load_state_dict(state["learner"], str(self.dir.checkpoints))
        self.guard.history = list(state["guard"])
        self.position = Position(**state["position"])
        self._reconcile(state.get("skips", {}))
        self.unexamined, self.images = state["unexamined"], state["images"]
        self.clock.trained, self.clock.trained_cpu = state["trained_seconds"]
        self.clock.load_state_dict(state.get("clock", {}))
        self.target_reached = state["target_reached"]

    def compare_ranks(self, seconds: float = 0.0) -> None:
        """Hear from all ranks how they fared, and name those that were slow; a collective.

        Args:
            seconds: that this rank has spent in steps since the last call, without waiting for others.
        """
        phase = self.plan.phase(self.position)
        with self.clock.part("communication"):
            slow = self.rank_stats.take(
                seconds, self.learner.noise.take(), phase.batch_size, self.plan.global_batch(phase)
            )
        if not slow:
            return
        if not self._stragglers_said:
            self.reporter.say(f"slow: {', '.join(slow)}; every step waits for the slowest rank")
        self._stragglers_said = True
        self.record("stragglers", slow)

    def leave_out(self, faults: dict[int, str]) -> None:
        """Train on without the bad images that ranks have found, none of which was trained on; a collective.

        Args:
            faults: what is wrong with each, by id; the same on all ranks.

        Raises:
            UserError: on all ranks: there are too many, or the list cannot be written.
        """
        self.reporter.say(f"left out: {skips.described(self.train_split, faults)}; {self.dir.skips} lists all")
        self.record("left_out", [skips.name(self.train_split, image) for image in faults])
        self._leave_out({**self.train_split.skips, **faults})
        comm.on_root(lambda: files.save_text(self.dir.skips, skips.text(self.train_split)))

    def _leave_out(self, all_skips: dict[int, str]) -> None:
        split = replace(self.train_split, skips=all_skips)
        plan = replace(self.plan, images=len(split.good))
        found = {image: fault for image, fault in all_skips.items() if image not in self._listed}
        skips.refuse_many(split, found, len(split))
        if not all(map(plan.steps_an_epoch, plan.phases)):
            raise UserError(
                f"data.path: {plan.images} good images are left in {split.root}, fewer than one global batch: "
                f"{skips.described(split, found)}. Put whole images there or lower data.batch_size."
            )
        self.train_split, self.plan = split, plan

    def _reconcile(self, saved: dict[int, str]) -> None:
        """Make of a checkpoint's position, which counts images without those it ``saved`` as bad, one without all."""
        self._leave_out({**saved, **self.train_split.skips})
        n, seed, now = len(self.train_split), self.config.seed, self.position
        done = resume_offset(n, seed, now.epoch, now.offset, saved, self.train_split.skips)
        self.position = replace(now, offset=done)

    @property
    def asked_to_stop(self) -> bool:
        """Whether this rank was; the others may not know."""
        return self._stop.requested is not None

    def stop(self) -> NoReturn:
        """End early, on all ranks, with the checkpoint that was saved last."""
        self.record("run_interrupted", self._stop.requested)
        self.store.wait()
        raise Stopped(f"{self.dir.path} stopped at step {self.position.step}; the same command goes on from there")

    def stop_if_asked(self) -> None:
        """Between the batches of an evaluation, before which a checkpoint was saved; a collective."""
        if comm.total(torch.tensor([int(self.asked_to_stop)])).item():
            self.stop()

    def record(self, key: str, value: Any = None) -> None:
        """Write to the event log."""
        self._log.write(key, value, step=self.position.step, epoch=self.plan.at(self.position))
