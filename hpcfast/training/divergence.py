"""A loss that is no number: all ranks stop, and what it came from is kept for a second look."""

import json
from typing import Any

from hpcfast.distributed import comm
from hpcfast.errors import UserError
from hpcfast.runs import files
from hpcfast.runs.directory import RunDirectory


def end(run: RunDirectory, mine: dict[str, Any] | None) -> None:
    """Save what ``mine`` says and end the run; a collective, of all ranks, those without such a loss too.

    Args:
        mine: this rank's step whose loss was not finite: ``rank``, ``step``, ``epoch``, ``loss``, ``lr``, ``files``.

    Raises:
        UserError: on every rank, naming the first rank that had one.
    """
    # A loss that is no number spreads with the next allreduce: only the ranks that had it first have caused it.
    steps = [step for step in comm.gather(mine and mine["step"]) if step is not None]

    def accuse() -> None:
        if mine is None or mine["step"] > min(steps):
            return
        run.failures.mkdir(exist_ok=True)
        path = run.failures / f"step-{mine['step']:08d}-rank-{mine['rank']}.json"
        files.save_text(path, json.dumps(mine, indent=1) + "\n")
        raise UserError(
            f"training has diverged: the loss is {mine['loss']} at step {mine['step']} (epoch {mine['epoch']:.2f}) on "
            f"rank {mine['rank']}; {path} lists its {len(mine['files'])} images. Look at them, lower optim.lr (now "
            f"{mine['lr']:.3g}) or lengthen schedule.warmup; the same command runs again from the last checkpoint."
        )

    comm.raise_on_all_ranks(accuse)
