"""Ranks that a fault has ended: the nodes are looked at, and the work starts again, here or in another job.

Only the standard library, from Python 3.8 on: see hpcfast/cluster/job.py.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from hpcfast.cluster import slurm
from hpcfast.cluster.ending import again, fail, say
from hpcfast.errors import UserError

NO_FAULTS = {2, 126, 127, 130, 140, 143}
"""Codes that would come again (the user's input, a command that is not there), or of a signal to end."""
KILLED = 137
"""srun's code where a rank was killed, even with all that could have reported it; no refusal of srun's has it."""
ANSWER = 5.0
"""Seconds for a node to start a process."""
SOON = 180.0
"""Seconds before the time limit: the ranks may have had its signal already, and new ones would not get it."""


class Outcome(NamedTuple):
    """How the ranks of one start have ended."""

    code: int
    """Of the first that failed."""
    step: str = ""
    """Of Slurm's; empty where no rank has reported."""
    node: str = ""
    """Of the first that failed, unless it only lost the others."""
    all_ended: bool = True
    silent: tuple[str, ...] = ()
    """Nodes that gave no answer while the ranks ended."""
    saved: bool = False
    """They have saved what a next start goes on from."""

    @classmethod
    def read(cls, failed: Path) -> Outcome | None:
        """What the first rank that failed has written (hpcfast/cluster/rank.py), if one has."""
        if not failed.exists():
            return None
        code, step, node = [*failed.read_text().split(), "", "", ""][:3]
        return cls(int(code or 1), step, node)


class Faults:
    """Those of this job."""

    def __init__(self, given: Sequence[str]) -> None:
        """``given``: the batch script and its arguments."""
        self._given = given
        self._without_progress = 0
        self._of_node: Counter[str] = Counter()

    def restart(self, outcome: Outcome) -> bool:
        """Whether the ranks, which have failed, are to be started again here; else the work goes on in another job.

        Raises:
            Failed: it does not go on.
        """
        most = int(os.environ["HPCFAST_MAX_RESTARTS"])
        began = outcome.step or outcome.code == KILLED
        if outcome.code in NO_FAULTS or not began or not most:
            fail(outcome.code)
        self._without_progress = 1 if outcome.saved else self._without_progress + 1
        try:
            return self._restart(outcome, most)
        except UserError as error:
            say(f"== {error}")
            fail(outcome.code)

    def _restart(self, outcome: Outcome, most: int) -> bool:
        where = f" on {outcome.node}" if outcome.node else ""
        what = f"ranks ended with code {outcome.code}{where}"
        job = slurm.show(slurm.this_job())
        if job["JobState"] != "RUNNING":
            raise UserError(f"{what}, and the job is {job['JobState']}")
        silent = list(outcome.silent) or slurm.silent_nodes(ANSWER)
        exclude = self._exclude(silent or [outcome.node])
        if silent:
            what += f"; no answer from {','.join(silent)}"
        if silent or exclude or not outcome.all_ended or slurm.seconds_left(job) < SOON:
            again(self._given, what, exclude)
            return False
        if self._without_progress > most:
            raise UserError(f"{what}, and {most} restarts have made no progress")
        count = f"restart {self._without_progress} of at most {most} without progress"
        say(f"== {what}; started again in this allocation, {count}")
        return True

    def _exclude(self, nodes: Sequence[str]) -> list[str]:
        """Nodes on which there were too many faults, with one more on each of these."""
        most = int(os.environ["HPCFAST_EXCLUDE_AFTER"])
        self._of_node.update(filter(None, nodes))
        return sorted(node for node, count in self._of_node.items() if most and count >= most)
