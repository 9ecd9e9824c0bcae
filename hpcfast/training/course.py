"""How far a training is: its images, the plan for them, the position in it, and what bad images change of these."""

from dataclasses import asdict, replace
from typing import Any

from hpcfast.config import Phase, RunConfig
from hpcfast.data import Batch, skips
from hpcfast.data.order import resume_offset
from hpcfast.data.split import Split
from hpcfast.errors import UserError
from hpcfast.training.plan import Plan, Position


class Course:
    """The same on all ranks after every step."""

    def __init__(self, split: Split, config: RunConfig, ranks: int) -> None:
        self.split, self.position = split, Position()
        self.plan = Plan.of(config, len(split.good), ranks)
        self.images = 0
        """Trained on in all, those of steps that were undone too."""
        self._seed, self._ranks = config.seed, ranks
        self._listed = frozenset(split.skips)

    @property
    def at(self) -> float:
        """Epochs that have been done, with the fraction of the one that runs."""
        return self.plan.at(self.position)

    @property
    def phase(self) -> Phase:
        return self.plan.phase(self.position)

    @property
    def global_batch(self) -> int:
        """Images of an optimizer step now, over all ranks."""
        return self.plan.global_batch(self.phase)

    @property
    def finished(self) -> bool:
        return self.plan.finished(self.position)

    @property
    def step(self) -> int:
        """Optimizer steps that have been taken."""
        return self.position.step

    @property
    def epoch(self) -> int:
        """Passes through the data that are complete."""
        return self.position.epoch

    def advance(self, batches: tuple[Batch, ...]) -> None:
        """Count an optimizer step, of these batches on this rank."""
        self.position = self.plan.advance(self.position)
        self.images += sum(len(batch.y) for batch in batches) * self._ranks

    def enter_next(self) -> bool:
        """Enter the next epoch or phase where it is time; whether an epoch, or the run, has ended with that."""
        before = self.position
        self.position = self.plan.enter_next(before)
        return self.position.epoch > before.epoch or (self.finished and not self.plan.finished(before))

    def leave_out(self, all_skips: dict[int, str]) -> None:
        """Train on without the images ``all_skips``, none of which has been trained on in this epoch.

        Args:
            all_skips: what is wrong with each, by id; the same on all ranks.

        Raises:
            UserError: there are too many that no list named before.
        """
        split = replace(self.split, skips=all_skips)
        plan = replace(self.plan, images=len(split.good))
        found = {image: fault for image, fault in all_skips.items() if image not in self._listed}
        skips.refuse_many(split, found, len(split))
        if not all(map(plan.steps_an_epoch, plan.phases)):
            raise UserError(
                f"data.path: {plan.images} good images are left in {split.root}, fewer than one global batch: "
                f"{skips.described(split, found)}. Put whole images there or lower data.batch_size."
            )
        self.split, self.plan = split, plan

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"position": asdict(self.position), "skips": dict(self.split.skips), "images": self.images}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Become what ``state`` was, which may know other bad images, and counts positions without its own."""
        saved, now, self.images = state.get("skips", {}), Position(**state["position"]), state["images"]
        self.leave_out({**saved, **self.split.skips})
        done = resume_offset(len(self.split), self._seed, now.epoch, now.offset, saved, self.split.skips)
        self.position = replace(now, offset=done)
