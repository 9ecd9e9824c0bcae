"""A run: its state on this rank, and how that is saved and taken up again.

Every random number of a run is a function of (seed, epoch or step, image or rank), and all ranks hold equal
weights after every step: a checkpoint of rank 0's is the whole state. (With Adasum the optimizers' states differ;
what goes on from a checkpoint then goes on with rank 0's.)
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

import torch

from hpcfast import foreign
from hpcfast.config import RunConfig
from hpcfast.data import feed, skips
from hpcfast.data.dataset import Dataset
from hpcfast.distributed import comm
from hpcfast.errors import UserError
from hpcfast.runs import events, files
from hpcfast.runs.clock import Clock
from hpcfast.runs.directory import RunDirectory
from hpcfast.runs.failures import History
from hpcfast.runs.progress import Reporter
from hpcfast.runs.signals import Stopped, StopRequest
from hpcfast.runs.trackers.following import Followers
from hpcfast.training.checkpoint import Store
from hpcfast.training.course import Course
from hpcfast.training.guard import Guard
from hpcfast.training.profile import device_event
from hpcfast.training.rank_stats import RankStats
from hpcfast.training.step import Learner


class Run:
    """What is needed to train, and how far it is."""

    def __init__(
        self, config: RunConfig, world: comm.World, data: Dataset, reporter: Reporter, stop: StopRequest, began: float
    ) -> None:
        """``began``: when this process turned to the run (seconds since 1970); of the first, the clock's start."""
        self.config, self.world, self.data = config, world, data
        self.reporter, self._stop, self.dir = reporter, stop, RunDirectory(config.folder)
        past = events.read(self.dir.events) if world.is_root else []
        self.store = Store(self.dir.checkpoints, config.checkpoint, reporter.say, History.of(past, world.nodes))
        self._log = events.EventLog(self.dir.events if world.is_root else None)
        started = os.environ.get("HPCFAST_JOB_STARTED")  # by cluster/job.py
        job = {"job_started": float(started)} if started else None
        self._log.write("init_start", job, step=0, epoch=0, at=began)
        self._requeued = any(event["key"] == "run_start" for event in past)
        self.clock = Clock(past[0]["time"] if past else began, device_event if world.device.type == "cuda" else None)
        weighted = data.train.labels if config.class_weights == "balanced" else None
        self.learner = Learner(config, len(data.train.classes), world, self.clock, weighted)
        self.guard = Guard(config)
        self.rank_stats = RankStats(world)
        self._stragglers_said = False
        self.course = Course(data.train, config, world.size)
        self.code = foreign.imported(config.dump())
        """Of the user's own that the run uses; see :func:`hpcfast.foreign.imported`."""
        self.unexamined = False
        """An epoch has ended, or the run, and its checks are still to be made."""
        self.target_reached: float | None = None
        """When it was, by the clock."""

    def begin(self, accept_data: bool = False, moved: bool = False) -> None:
        """Take up the last checkpoint where there is one, and save the first where there is none.

        Data that have changed since then must be accepted; ``moved`` ones were at another path.
        """
        state, healthy = self.store.load_last()
        if state is not None:
            if said := self.data.compare(state.get("data"), self.dir.path, accept_data, moved):
                self.reporter.say(said)
                self.record("data_changed", said)
                state["skips"] = {}  # their ids may be other images' now; bad images are found again
            if changed := [name for name, code in state.get("code", {}).items() if code != self.code.get(name)]:
                said = f"the code of {', '.join(changed)} has changed since the last checkpoint"
                self.reporter.say(said)
                self.record("code_changed", said)
            self.load_state_dict(state)
            self.rank_stats.load_state_dict(state.get("survey", {}))
        elif self._requeued:
            self.clock.load_state_dict({})
        self.record("init_stop")
        loader = feed.name(self.course.split, self.config.data)
        where = {"world_size": self.world.size, "device": str(self.world.device), "loader": loader}
        self.record("requeue" if self._requeued else "run_start", where | ({"code": self.code} if self.code else {}))
        if state is None:
            self.save()
            self.store.mark_healthy()
            return
        self.unexamined &= not healthy
        self.unexamined |= self.course.enter_next()
        if self.course.step == 0:  # killed between the two calls above
            self.store.mark_healthy()
        same = state["world_size"] == self.world.size
        ranks = "" if same else f", now on {self.world.size} ranks instead of {state['world_size']}"
        done = f"{self.course.at:.4g}/{self.course.epochs:g}"
        self.reporter.say(f"going on with {self.dir.path} after epoch {done}{ranks}")

    def followers(self) -> Followers:
        """The trackers, who are told what the log says already, and all that is recorded from now on."""
        trackers = self.config.trackers if self.world.is_root else ()
        followers = Followers(trackers, self.dir, self.config.model_dump(mode="json"), self.reporter.say)
        self._log.listeners.append(followers.tell)
        return followers

    def say_interval(self) -> None:
        """Say and record how often a checkpoint is saved, where the run itself finds that out; rank 0 knows it."""
        past = self.store.past
        if self.config.checkpoint.minutes == "auto" and self.world.is_root:
            every, mean, each = past.interval, past.mean_time, past.checkpoint
            self.record("save_interval", {"seconds": every, "mean_time": mean, "checkpoint": each})
            self.reporter.say(
                f"checkpoint.minutes=auto: now one every {every / 60:.3g} minutes, as one takes {each:.2g} s and a "
                f"failure of the run is to be expected every {mean / 3600:.3g} hours"
            )

    def save(self) -> None:
        """Save a checkpoint; a collective. A full disk, or weights that are no numbers, end all ranks."""
        self.record("checkpoint_start")
        with self.clock.part("checkpoint"):
            self.store.save(self.course.step, self.state_dict)
        self.record("checkpoint_stop")
        comm.commit()

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to resume; a UserError where training has diverged."""
        if not self.learner.finite():
            raise UserError(
                f"training has diverged: at step {self.course.step} weights are no longer finite. Lower optim.lr "
                f"(now {self.config.optim.lr}) or lengthen schedule.warmup; the last checkpoint is as it was."
            )
        return {
            "learner": self.learner.state_dict(),
            "guard": self.guard.history,
            **self.course.state_dict(),
            "data": self.data.state(),
            "unexamined": self.unexamined,
            "trained_seconds": (self.clock.trained, self.clock.trained_cpu),
            "clock": self.clock.state_dict(),
            "survey": self.rank_stats.state_dict(),
            "target_reached": self.target_reached,
            "world_size": self.world.size,
            "code": self.code,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.learner.load_state_dict(state["learner"], str(self.dir.checkpoints))
        self.guard.history = list(state["guard"])
        self.course.load_state_dict(state)
        self.unexamined = state["unexamined"]
        self.clock.trained, self.clock.trained_cpu = state["trained_seconds"]
        self.clock.load_state_dict(state.get("clock", {}))
        self.target_reached = state["target_reached"]

    def compare_ranks(self, seconds: float = 0.0) -> None:
        """Hear from all ranks how they fared in ``seconds`` of steps, and name those that were slow; a collective."""
        small, large = self.course.phase.batch_size, self.course.global_batch
        with self.clock.part("communication"):
            slow = self.rank_stats.take(seconds, self.learner.noise.take(), small, large)
        if slow and not self._stragglers_said:
            self.reporter.say(f"slow: {', '.join(slow)}; every step waits for the slowest rank")
        if slow:
            self._stragglers_said = True
            self.record("stragglers", slow)

    def leave_out(self, faults: dict[int, str]) -> None:
        """Train on without bad images, by id, none of which was trained on; a collective, alike on all ranks."""
        self.reporter.say(f"left out: {skips.described(self.course.split, faults)}; {self.dir.skips} lists all")
        self.record("left_out", [skips.name(self.course.split, image) for image in faults])
        self.course.leave_out({**self.course.split.skips, **faults})
        comm.on_root(lambda: files.save_text(self.dir.skips, skips.text(self.course.split)))

    @property
    def asked_to_stop(self) -> bool:
        """Whether this rank was; the others may not know."""
        return self._stop.requested is not None

    def stop(self) -> NoReturn:
        """End early, on all ranks, with the checkpoint that was saved last."""
        self.record("run_interrupted", self._stop.requested)
        self.store.wait()
        raise Stopped(f"{self.dir.path} stopped at step {self.course.step}; the same command goes on from there")

    def stop_if_asked(self) -> None:
        """Between the batches of an evaluation, before which a checkpoint was saved; a collective."""
        if comm.total(torch.tensor([int(self.asked_to_stop)])).item():
            self.stop()

    @contextmanager
    def ends(self) -> Iterator[None]:
        """Record why the run ends in this block, if neither a signal nor its length is the cause."""
        comm.tell_before_end(lambda: self._abort("a rank has fallen silent"))
        try:
            yield
        except Stopped:
            raise
        except Exception as error:
            self._abort(str(error).partition("\n")[0])
            raise

    def _abort(self, why: str) -> None:
        with suppress(OSError):  # the disk may be the cause
            self.record("run_aborted", {"why": why[:500], "waited": self.clock.idle})

    def record(self, key: str, value: Any = None) -> None:
        """Write to the event log. Its times are the run's clock's: that of the machine may be set anew."""
        now = self.clock.started + self.clock.wall
        self._log.write(key, value, step=self.course.step, epoch=self.course.at, at=now)
