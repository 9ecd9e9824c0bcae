"""Where a run stands and what comes next: arithmetic of epochs, phases and steps, without tensors.

Every rank works it out for itself. A position does not depend on the number of ranks, so that a run can go on
with another number: what is left of the epoch's order is then dealt out anew.
"""

import math
from dataclasses import dataclass, replace

from hpcfast.config import Phase, RunConfig


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


@dataclass(frozen=True)
class Plan:
    """The whole run, for a training split of ``images`` images and a number of ``ranks``."""

    phases: tuple[Phase, ...]
    images: int
    ranks: int
    accumulate: int

    @classmethod
    def of(cls, config: RunConfig, images: int, ranks: int) -> "Plan":
        return cls(config.all_phases, images, ranks, config.accumulate)

    def phase(self, position: Position) -> Phase:
        """The phase ``position`` is in; of a finished run the last."""
        return self.phases[min(position.phase, len(self.phases) - 1)]

    def global_batch(self, phase: Phase) -> int:
        """Images of one optimizer step, over all ranks."""
        return phase.batch_size * self.ranks * self.accumulate

    def steps_an_epoch(self, phase: Phase) -> int:
        """Whole global batches in the data."""
        return self.images // self.global_batch(phase)

    def at(self, position: Position) -> float:
        """Epochs that have been done, with the fraction of the one that runs: what schedules are functions of."""
        phase = self.phase(position)
        usable = self.steps_an_epoch(phase) * self.global_batch(phase)
        return position.epoch + min(1.0, position.offset / usable)

    @property
    def epochs(self) -> float:
        """Length of the run in epochs."""
        return sum(self._steps(phase) / self.steps_an_epoch(phase) for phase in self.phases)

    @property
    def total_images(self) -> int:
        """Images the run trains on, each pass counted."""
        return sum(self._steps(phase) * self.global_batch(phase) for phase in self.phases)

    def enter_next(self, position: Position) -> Position:
        """Enter the next epoch or phase where the present one has no step left."""
        while True:
            if self.images - position.offset < self.global_batch(self.phase(position)):
                position = replace(position, epoch=position.epoch + 1, offset=0)
            elif not self.finished(position) and self._left(position) == 0:
                position = replace(
                    position,
                    phase=position.phase + 1,
                    phase_at=self.at(position),
                    phase_step=position.step,
                    phase_images=position.images,
                )
            else:
                return position

    def finished(self, position: Position) -> bool:
        """Whether a settled position is the end of the run."""
        return position.phase == len(self.phases)

    def steps(self, position: Position) -> int:
        """Steps until the epoch or the phase ends, from a settled position."""
        in_epoch = (self.images - position.offset) // self.global_batch(self.phase(position))
        return min(in_epoch, self._left(position))

    def advance(self, position: Position) -> Position:
        """The position one step on."""
        batch = self.global_batch(self.phase(position))
        return replace(position, offset=position.offset + batch, step=position.step + 1, images=position.images + batch)

    def _steps(self, phase: Phase) -> int:
        if phase.steps:
            return phase.steps
        if phase.images:
            return math.ceil(phase.images / self.global_batch(phase))
        return (phase.epochs or 0) * self.steps_an_epoch(phase)

    def _left(self, position: Position) -> int:
        phase = self.phase(position)
        if phase.steps:
            return max(0, phase.steps - (position.step - position.phase_step))
        if phase.images:
            missing = phase.images - (position.images - position.phase_images)
            return max(0, math.ceil(missing / self.global_batch(phase)))
        missing_epochs = (phase.epochs or 0) - (self.at(position) - position.phase_at)
        return max(0, math.ceil(missing_epochs * self.steps_an_epoch(phase) - 1e-6))
