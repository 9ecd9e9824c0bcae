"""The jobs of a study, and what is known of each from the files that it leaves.

A job's run directory is ``studies/STUDY/runs/JOB``, its log ``studies/STUDY/logs/JOB.log``. Whoever starts it writes
a line ``== start`` to the log before it and ``== end CODE SECONDS`` after it: a log without the second is that of a job
that was killed with the study.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from hpcfast.runs.names import printable
from hpcfast.scaling.study import Data, Method, Scaling, Study

START = "== start"
_END = re.compile(r"^== end (\d+) ([\d.]+)$", re.MULTILINE)


class Kind(NamedTuple):
    """What jobs have in common that differ only in the seed."""

    data: str
    method: str
    scaling: Scaling
    nodes: int


@dataclass(frozen=True)
class Job:
    """One run of a study."""

    study: Study
    of: Data
    method: Method
    kind: Kind
    seed: int

    @property
    def name(self) -> str:
        """``digits-fast-strong-2-seed0``; the number is that of nodes."""
        return "-".join(map(str, self.kind)) + f"-seed{self.seed}"

    @property
    def ranks(self) -> int:
        return self.kind.nodes * self.study.ranks_per_node

    @property
    def batch(self) -> int:
        """Images of a step, a rank's."""
        if self.kind.scaling == "weak":
            return self.of.rank_batch or 0
        return (self.of.global_batch or 0) // self.ranks

    @property
    def folder(self) -> Path:
        """The run directory."""
        return self.study.folder / "runs" / self.name

    @property
    def log(self) -> Path:
        return self.study.folder / "logs" / f"{self.name}.log"

    @property
    def overrides(self) -> list[str]:
        """What the run's configuration file is changed by; what the study says of the run comes last."""
        own = [f"runs={self.folder.parent}", f"name={self.name}", f"seed={self.seed}", f"target={self.of.target}"]
        own += [f"target_margin={self.of.margin}"] if self.of.margin else []
        own += [f"data.batch_size={self.batch}", f"data.threads={self.study.threads}"]
        return [*self.study.set, *self.of.set, *self.method.set, *own]

    @property
    def arguments(self) -> list[str]:
        """What ``hpcfast`` is to be called with on all ranks."""
        return ["train", str(self.method.config), *self.overrides]

    @property
    def state(self) -> Literal["done", "crashed", "unfinished", "missing"]:
        """How far it is: a summary is written last."""
        if (self.folder / "summary.json").is_file():
            return "done"
        if not self.log.is_file():
            return "missing"
        asked_to_stop = (None, 75, 143)  # None: nobody saw its end
        return "unfinished" if last_end(self.log)[0] in asked_to_stop else "crashed"


def jobs(study: Study) -> list[Job]:
    """All jobs, seed by seed: what is done of a study is then balanced, and a drift of the machine hits all alike."""
    lists: dict[Scaling, tuple[int, ...]] = {"strong": study.strong, "weak": study.weak}
    return [
        Job(study, data, method, Kind(data.name, method.name, scaling, nodes), seed)
        for seed in range(study.seeds)
        for data in study.data
        for method in data.methods
        for scaling, counts in lists.items()
        for nodes in counts
    ]


def last_end(log: Path) -> tuple[int | None, float | None]:
    """How the last start in a log ended: the exit code and the seconds, or twice None while it has not."""
    ends = _END.findall(_last_start(log))
    return (int(ends[-1][0]), float(ends[-1][1])) if ends else (None, None)


def tail(log: Path) -> str:
    """The last three lines that the last start in a log has said, in one line."""
    said = [line.strip() for line in _last_start(log).splitlines()[1:]]
    return printable(" | ".join([line for line in said if line and not line.startswith("== ")][-3:]))


def _last_start(log: Path) -> str:
    return log.read_text(errors="replace").rpartition(START)[2] if log.is_file() else ""
