"""``hpcfast train`` with a fault on a rank: ``faulty_train.py KIND RANK EPOCH ARGUMENTS…``.

KIND is what happens on RANK (or "all") when it is about to take the first step at or after EPOCH, 1.5 for instance:
"raise" an error, "kill" the process, "stop" it with SIGTERM, or "poison" the step's images with a NaN; "none" never
happens. The ids of the images of each step are written to the run's ``seen-RANK.jsonl``.
"""

import json
import os
import signal
import sys
from typing import Any

import torch

from hpcfast import cli
from hpcfast.data import Batch
from hpcfast.training.loop import Loop
from hpcfast.training.state import Run
from hpcfast.training.step import Learner

kind, rank, epoch = sys.argv[1], sys.argv[2], float(sys.argv[3])
learning_rate, look_at, step = Loop._learning_rate, Loop._look_at, Learner.step
poisoned = False


def is_due(run: Run) -> bool:
    return rank in ("all", str(run.world.rank)) and run.course.at >= epoch


def with_fault(self: Loop) -> float:
    global kind, poisoned
    if kind != "none" and is_due(self.run):
        if kind == "raise":
            raise RuntimeError("a fault made by the test")
        if kind in ("kill", "stop"):
            os.kill(os.getpid(), signal.SIGKILL if kind == "kill" else signal.SIGTERM)
        poisoned = kind == "poison"
        kind = "none"
    return learning_rate(self)


def with_poison(self: Learner, batches: tuple[Batch, ...], *arguments: Any) -> Any:
    global poisoned
    if poisoned:
        batches[0].x[0, 0, 0, 0] = torch.nan
        poisoned = False
    return step(self, batches, *arguments)


def with_record(self: Loop, loss: Any, lr: float, batches: tuple[Batch, ...]) -> None:
    look_at(self, loss, lr, batches)
    seen = {"epoch": self.run.course.epoch, "step": self.run.course.step}
    seen["ids"] = [number for batch in batches for number in batch.ids.tolist()]
    with (self.run.dir.path / f"seen-{self.run.world.rank}.jsonl").open("a") as file:
        file.write(json.dumps(seen) + "\n")


Loop._learning_rate, Loop._look_at, Learner.step = with_fault, with_record, with_poison
sys.argv[1:4] = []
cli.main()
