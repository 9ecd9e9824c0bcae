"""Where a run stands and what comes next: its images, and arithmetic of epochs, phases and steps, without tensors.

Every rank works it out for itself. A position does not depend on the number of ranks, so that a run can go on
with another number: what is left of the epoch's order is then dealt out anew.
"""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from hpcfast.config import Phase, RunConfig
from hpcfast.data import skips
from hpcfast.data.order import resume_offset, train_order
from hpcfast.data.split import Split
from hpcfast.errors import UserError


@dataclass(frozen=True)
class Position:
    """What has been done."""

    epoch: int = 0
    """Passes through the data that are complete."""
    offset: int = 0
    """Images of the next pass that have been trained on."""
    step: int = 0
    images: int = 0
    phase: int = 0
    phase_at: float = 0.0
    """Where the phase began: in epochs, steps and images."""
    phase_step: int = 0
    phase_images: int = 0


class Course:
    """The same on all ranks after every step."""

    def __init__(self, split: Split, config: RunConfig, ranks: int) -> None:
        self.split, self.position = split, Position()
        self.phases, self.accumulate, self.ranks = config.all_phases, config.accumulate, ranks
        self.good = len(split.good)
        """Images of an epoch."""
        self.images = 0
        """Trained on in all, those of steps that were undone too."""
        self._seed = config.seed
        self._listed = frozenset(split.skips)

    @property
    def phase(self) -> Phase:
        """The present phase; of a finished run the last."""
        return self.phases[min(self.position.phase, len(self.phases) - 1)]

    @property
    def finished(self) -> bool:
        return self.position.phase == len(self.phases)

    @property
    def step(self) -> int:
        return self.position.step

    @property
    def epoch(self) -> int:
        return self.position.epoch

    @property
    def at(self) -> float:
        """Epochs that have been done, with the fraction of the one that runs: what schedules are functions of."""
        usable = self.steps_an_epoch(self.phase) * self.global_batch or math.inf
        return self.epoch + min(1.0, self.position.offset / usable)

    @property
    def global_batch(self) -> int:
        """Images of an optimizer step now, over all ranks."""
        return self.global_batch_of(self.phase)

    def global_batch_of(self, phase: Phase) -> int:
        return phase.batch_size * self.ranks * self.accumulate

    def steps_an_epoch(self, phase: Phase) -> int:
        """Whole global batches in the data."""
        return self.good // self.global_batch_of(phase)

    @property
    def epochs(self) -> float:
        """Length of the run in epochs."""
        return sum(self._steps(phase) / self.steps_an_epoch(phase) for phase in self.phases)

    @property
    def total_images(self) -> int:
        """Images the run trains on, each pass counted."""
        return sum(self._steps(phase) * self.global_batch_of(phase) for phase in self.phases)

    @property
    def steps(self) -> int:
        """Steps until the epoch or the phase ends, after :meth:`enter_next`."""
        return min((self.good - self.position.offset) // self.global_batch, self._left())

    def order(self) -> np.ndarray:
        """Ids of the images of these steps, see :func:`hpcfast.data.order.train_order`."""
        batch, done = self.phase.batch_size * self.accumulate, self.position.offset
        return train_order(
            len(self.split), self._seed, self.epoch, self.ranks, batch, done, self.steps, self.split.skips
        )

    def advance(self) -> None:
        """Count an optimizer step."""
        now, batch = self.position, self.global_batch
        self.position = replace(now, offset=now.offset + batch, step=now.step + 1, images=now.images + batch)
        self.images += batch

    def enter_next(self) -> bool:
        """Enter the next epoch or phase where no step is left; whether an epoch, or the run, has ended with that."""
        epoch, finished = self.epoch, self.finished
        while True:
            now = self.position
            if self.good - now.offset < self.global_batch:
                self.position = replace(now, epoch=now.epoch + 1, offset=0)
            elif not self.finished and self._left() == 0:
                self.position = replace(
                    now, phase=now.phase + 1, phase_at=self.at, phase_step=now.step, phase_images=now.images
                )
            else:
                return self.epoch > epoch or (self.finished and not finished)

    def _steps(self, phase: Phase, steps: int = 0, images: int = 0, epochs: float = 0.0) -> int:
        """Steps of ``phase`` that are left after so many of its ``steps``, ``images`` and ``epochs``."""
        if phase.steps:
            return max(0, phase.steps - steps)
        if phase.images:
            return max(0, math.ceil((phase.images - images) / self.global_batch_of(phase)))
        return max(0, math.ceil(((phase.epochs or 0) - epochs) * self.steps_an_epoch(phase) - 1e-6))

    def _left(self) -> int:
        """Steps until the phase ends."""
        now = self.position
        return self._steps(self.phase, now.step - now.phase_step, now.images - now.phase_images, self.at - now.phase_at)

    def leave_out(self, all_skips: dict[int, str]) -> None:
        """Train on without ``all_skips``, none of which has been trained on in this epoch; refuse too many new ones."""
        self.split = replace(self.split, skips=all_skips)
        self.good = len(self.split.good)
        found = {image: fault for image, fault in all_skips.items() if image not in self._listed}
        skips.refuse_many(self.split, found, len(self.split))
        if not all(map(self.steps_an_epoch, self.phases)):
            raise UserError(
                f"data.path: {self.good} good images are left in {self.split.root}, fewer than one global batch: "
                f"{skips.described(self.split, found)}. Put whole images there or lower data.batch_size."
            )

    def state_dict(self) -> dict[str, Any]:
        return {"position": asdict(self.position), "skips": dict(self.split.skips), "images": self.images}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Become what ``state`` was, which may know other bad images, and counts positions without its own."""
        saved, now, self.images = state.get("skips", {}), Position(**state["position"]), state["images"]
        self.leave_out({**saved, **self.split.skips})
        done = resume_offset(len(self.split), self._seed, now.epoch, now.offset, saved, self.split.skips)
        self.position = replace(now, offset=done)
