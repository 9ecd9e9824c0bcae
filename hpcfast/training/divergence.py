"""A loss that is no number: all ranks stop, and what it came from is kept for a second look."""

import json
from dataclasses import asdict, dataclass

from hpcfast.distributed import comm
from hpcfast.errors import UserError
from hpcfast.runs import files
from hpcfast.runs.directory import RunDirectory


@dataclass(frozen=True)
class NonFiniteLoss:
    """The step on this rank whose loss was not finite."""

    rank: int
    step: int
    epoch: float
    loss: str
    """In words: JSON has no word for what is no number."""
    lr: float
    files: list[str]


def end(run: RunDirectory, suspect: NonFiniteLoss | None) -> None:
    """Save the suspects' files and end the run; a collective, of all ranks, those without a suspect too.

    Raises:
        UserError: on every rank, naming the first rank that had one.
    """
    # A loss that is no number spreads with the next allreduce: only the ranks that had it first have caused it.
    steps = [step for step in comm.gather(suspect.step if suspect else None) if step is not None]

    def accuse() -> None:
        if suspect is None or suspect.step > min(steps):
            return
        run.failures.mkdir(exist_ok=True)
        path = run.failures / f"step-{suspect.step:08d}-rank-{suspect.rank}.json"
        files.save_text(path, json.dumps(asdict(suspect), indent=1) + "\n")
        raise UserError(
            f"training has diverged: the loss is {suspect.loss} at step {suspect.step} (epoch {suspect.epoch:.2f}) on "
            f"rank {suspect.rank}; {path} lists its {len(suspect.files)} images. Look at them, lower optim.lr (now "
            f"{suspect.lr:.3g}) or lengthen schedule.warmup; the same command runs again from the last checkpoint."
        )

    comm.raise_on_all_ranks(accuse)
