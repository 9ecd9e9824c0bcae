"""Reads the events of a run one by one, and notes what cannot have happened so."""

import math
from operator import index
from typing import Any

from hpcfast.runs.events import Event, Fault

NEXT: dict[str, tuple[str, ...]] = {  # besides init_start, for a kill can come at any time
    "init_start": ("init_stop",),
    "init_stop": ("run_start", "requeue"),
    **dict.fromkeys(("run_interrupted", "run_aborted", "run_stop"), ()),
}
AFTER = {"init_stop": "init_start", "run_start": "init_stop", "requeue": "init_stop"}
WITHIN: dict[str, tuple[tuple[str, ...], ...]] = {  # which phases may be open
    **dict.fromkeys(("epoch_start", "eval_start", "guard", "rollback", "target_reached", "run_stop"), ((),)),
    **dict.fromkeys(("clean_accuracy", "robust_accuracy"), (("eval",),)),
    "train_loss": (("epoch",),),
    "checkpoint_start": ((), ("epoch",)),
    "run_interrupted": ((), ("epoch",), ("eval",)),
}
ROUNDING = 2e-6  # of epochs


class Rules:
    """What has happened by now. A process of the run starts with ``init_start``; a kill may end it anywhere."""

    def __init__(self, config: dict[str, Any]) -> None:
        """``config`` is what ``config.yaml`` holds; a KeyError says that another version wrote it."""
        phases = config["phases"]
        self.target = config["target"]
        self._goal = None if self.target is None else round(self.target + config["target_margin"], 9)
        self._log_every, self._every = config["log_every"], config["evaluation"]["every"]
        self._confirm = len(config["evaluation"]["confirm"])
        self._phases, self._steps, self._epochs = bool(phases), config["steps"], config["epochs"]
        if phases and all(phase["epochs"] for phase in phases):
            self._epochs = sum(phase["epochs"] for phase in phases)
        batches = {phase["batch_size"] for phase in phases} or {config["data"]["batch_size"]}
        self.rank_batch = batches.pop() * config["accumulate"] if len(batches) == 1 else None
        """Images of a rank's step; None where phases differ in it."""
        self.faults: list[Fault] = []
        self.first: Event | None = None
        self.now: Event | None = None
        self.start: Event | None = None
        """The last ``run_start`` or ``requeue``."""
        self.reached: Event | None = None
        self.measured: list[tuple[str, dict[str, Any]]] = []
        """Evaluations that this process has made after training: final or confirm, and what they found."""
        self.images = self._logged = 0
        self._open: list[str] = []
        self._readings: dict[str, float] = {}
        self._purpose = ""
        self._monitored: set[int] = set()
        self._saved: dict[int, int] = {}
        """Images trained on, by the step of a checkpoint."""
        self._whole: set[int] = set()
        """Steps whose checkpoint is known to be complete."""
        self._examined: int | None = None

    def look(self, event: Event) -> None:
        """Take the next event."""
        if self.now and event.time < self.now.time:
            self._fault(event, f"time goes back by {self.now.time - event.time:.6f} s")
        if event.key == "init_start":
            self._begin(event)
        elif not self.now:
            self._fault(event, f"{event.key} cannot follow nothing")
        else:
            self._order(event, self.now.key)
            try:
                self._move(event, self.now)
                self._nest(event)
                getattr(self, f"_on_{event.key}", lambda _: None)(event)
            except (KeyError, TypeError):
                self._fault(event, f"{event.key} cannot be {event.value!r}")
        self.now = event

    def _fault(self, event: Event, what: str) -> None:
        self.faults.append((event.line, what))

    def _order(self, event: Event, before: str) -> None:
        """A process starts, runs and ends in one order."""
        if before in NEXT and event.key not in NEXT[before]:
            self._fault(event, f"{event.key} cannot follow {before}")
        elif event.key in AFTER and before != AFTER[event.key]:
            self._fault(event, f"{event.key} follows {before}, not {AFTER[event.key]}")
        if self._must_stop and event.key != "target_reached" and before == "eval_stop":
            self._fault(event, f"target_reached is missing: the monitor read {self._readings['robust_accuracy']}")

    @property
    def _must_stop(self) -> bool:
        reading = self._readings.get("robust_accuracy", -1)
        return self._purpose == "monitor" and self._goal is not None and reading >= self._goal

    @property
    def _due(self) -> int:
        """The next step with a ``train_loss``."""
        return (self._logged // self._log_every + 1) * self._log_every

    def _begin(self, event: Event) -> None:
        self.first = self.first or event
        if event.step or event.epoch:
            self._fault(event, f"init_start at step {event.step}, not 0")
        self._open, self._readings, self._purpose, self.measured, self._examined = [], {}, "", [], None

    def _move(self, event: Event, now: Event) -> None:
        """Steps are made within epochs, one by one; back it goes only to a checkpoint."""
        if event.key == "init_stop":
            self._resume(event)
        elif event.key == "rollback":
            self._roll_back(event, now)
        elif self._open[:1] != ["epoch"]:
            if event.step != now.step:
                self._fault(event, f"{event.key} at step {event.step}, but training stood still at {now.step}")
        elif not now.step <= event.step <= self._due - (event.key in ("epoch_stop", "checkpoint_start")):
            self._fault(event, f"{event.key} at step {event.step} after {now.step}; train_loss of {self._due} is due")
        if event.key in ("init_stop", "rollback"):
            return
        self._compare_epochs(event, now)
        if self.start and self.rank_batch:
            self.images += (event.step - now.step) * self.rank_batch * index(self.start.value["world_size"])

    def _compare_epochs(self, event: Event, now: Event) -> None:
        """Where a step is in its epoch changes with its images, the phase's batch and the ranks alone."""
        low, high = now.epoch, now.epoch if event.step == now.step else math.inf
        whole = math.floor(now.epoch + ROUNDING)
        redefined = now.key in ("left_out", "requeue") or (now.key == "epoch_stop" and self._phases)
        if redefined and now.epoch > whole + ROUNDING:
            low, high = whole, whole + 1
        if not low - ROUNDING <= event.epoch <= high + ROUNDING:
            self._fault(event, f"{event.key} at epoch {event.epoch:g} after {now.epoch:g}, at step {event.step}")

    def _resume(self, event: Event) -> None:
        if event.step not in self._saved and (event.step or self._saved):
            self._fault(event, f"goes on at step {event.step}, where no checkpoint was saved")
        self.images = self._saved.get(event.step, 0)
        if self._saved:
            self._whole.add(event.step)

    def _roll_back(self, event: Event, now: Event) -> None:
        came, went = event.value["from_step"], event.value["to_step"]
        if (came, went) != (now.step, event.step) or went >= came or went not in self._saved:
            self._fault(event, f"rollback from step {came} to {went}, but it is at {now.step}, now at {event.step}")
        if self._examined != now.step:
            self._fault(event, f"rollback without a guard's finding at step {now.step}")

    def _nest(self, event: Event) -> None:
        """Each start has its stop, and each is within what it belongs to."""
        key = event.key
        if key in WITHIN and tuple(self._open) not in WITHIN[key]:
            self._fault(event, f"{key} {f'within {self._open[-1]}' if self._open else 'outside'}: a line is missing")
        phase, _, edge = key.rpartition("_")
        if phase not in ("epoch", "eval", "checkpoint"):
            return
        if edge == "start":
            self._open = [*self._open, phase] if tuple(self._open) in WITHIN[key] else [phase]
        elif phase not in self._open:
            self._fault(event, f"{key} without {phase}_start")
        else:
            self._open = self._open[: self._open.index(phase)]

    def _on_run_start(self, event: Event) -> None:
        if self.start:
            self._fault(event, "a second run_start; a process that goes on says requeue")
        self.start = event

    def _on_requeue(self, event: Event) -> None:
        if not self.start:
            self._fault(event, "requeue of a run without run_start")
        self.start = event
        self.reached = self.reached if self.reached and self.reached.step <= event.step else None

    def _on_epoch_start(self, event: Event) -> None:
        self._logged = event.step
        self._look_for_monitor(event)
        if self.reached:
            self._fault(event, "training goes on after target_reached")

    def _on_train_loss(self, event: Event) -> None:
        if event.step != self._due:
            self._fault(event, f"train_loss of step {event.step}, where {self._due} is due")
        self._logged = event.step

    def _on_checkpoint_start(self, event: Event) -> None:
        self._saved[event.step] = self.images

    def _on_checkpoint_stop(self, event: Event) -> None:
        self._whole.add(event.step)

    def _on_guard(self, event: Event) -> None:
        self._examined = event.step
        for key in ("seen", "strong"):
            self._accuracy(event, key, event.value[key])

    def _look_for_monitor(self, event: Event) -> None:
        """Wherever training has come to the end of such an epoch, the monitor has looked before it goes on."""
        every, epoch = self._every, event.epoch
        if every and epoch > 0 and epoch % every == 0 and event.step not in self._monitored:
            self._fault(event, f"no monitoring evaluation at epoch {epoch:g}, step {event.step}")

    def _on_eval_start(self, event: Event) -> None:
        self._purpose, self._readings = event.value, {}
        if self._purpose == "monitor":
            if not self._every or event.epoch == 0 or event.epoch % self._every:
                self._fault(event, f"a monitoring evaluation at epoch {event.epoch:g}; every {self._every} is due")
        elif self._purpose in ("final", "confirm"):
            self._look_for_monitor(event)
        else:
            self._fault(event, f"eval_start of {self._purpose!r}")

    def _on_eval_stop(self, event: Event) -> None:
        if self._purpose == "monitor":
            self._monitored.add(event.step)
            for key in {"clean_accuracy", "robust_accuracy"} - set(self._readings):
                self._fault(event, f"eval_stop without {key}")
            return
        self.measured.append((self._purpose, event.value))
        for key in ("clean_accuracy", "robust_accuracy"):
            self._accuracy(event, key, event.value[key])

    def _on_clean_accuracy(self, event: Event) -> None:
        if self._purpose != "monitor" or event.key in self._readings:
            self._fault(event, f"{event.key} once more, or not the monitor's")
        if self._accuracy(event, event.key, event.value):
            self._readings[event.key] = event.value

    _on_robust_accuracy = _on_clean_accuracy

    def _accuracy(self, event: Event, name: str, value: Any) -> bool:
        good = isinstance(value, int | float) and 0 <= value <= 1
        if not good:
            self._fault(event, f"{name} {value} is no fraction between 0 and 1")
        return good

    def _on_target_reached(self, event: Event) -> None:
        measured = self.now and self.now.key == "eval_stop" and self._must_stop
        if not measured or event.value != self._readings["robust_accuracy"]:
            self._fault(event, f"target_reached at {event.value}, but no evaluation before it read {self._goal}")
        self.reached = event

    def _on_run_stop(self, event: Event) -> None:
        if event.step not in self._whole:
            self._fault(event, f"run_stop before a checkpoint of step {event.step}")
        expected = ["final", *["confirm"] * self._confirm] if self.reached else ["final"]
        if (made := [purpose for purpose, _ in self.measured]) != expected:
            self._fault(event, f"run_stop after the evaluations {made}, not {expected}")
        short = (self._epochs and event.epoch < self._epochs - 1e-3) or (self._steps and event.step < self._steps)
        if short and not self.reached:
            self._fault(event, f"run_stop at epoch {event.epoch:g}, step {event.step}: the run is longer")
