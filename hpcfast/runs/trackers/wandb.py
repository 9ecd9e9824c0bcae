"""Weights & Biases, and Trackio, which has the same functions and no account."""

import os
import shutil
from collections.abc import Sequence
from itertools import groupby
from typing import Any, ClassVar, Literal

from hpcfast.runs.trackers import About, Point, Tracker, numbers
from hpcfast.runs.trackers.following import PATIENCE

START = 30.0
"""Seconds that W&B's server has to answer at first; a process that ends sooner waits for it."""


class Wandb(Tracker):
    """Weights & Biases, or Trackio."""

    environment: ClassVar[dict[str, str]] = {"WANDB_ERROR_REPORTING": "false"}

    project: str = "hpcfast"
    """The project that the run belongs to there."""
    client: Literal["wandb", "trackio"] = "wandb"
    """``wandb`` is offline unless ``WANDB_MODE`` says otherwise, ``trackio`` unless ``TRACKIO_SPACE_ID`` does."""

    @property
    def library(self) -> str:
        return self.client

    def open(self, run: About) -> "_Sink":
        return _Sink(self.project, run) if self.client == "wandb" else _Trackio(self.project, run)


class _Sink:
    """What a server has it keeps: it is told of the steps after its last one."""

    def __init__(self, project: str, run: About) -> None:
        import wandb

        shutil.rmtree(run.folder, ignore_errors=True)  # of earlier processes: all that counts is told again
        run.folder.mkdir(parents=True)
        self._run: Any = wandb.init(
            project=project,
            id=run.id,
            name=run.name,
            config=run.config,
            dir=run.folder,
            resume="allow",
            mode=os.environ.get("WANDB_MODE", "offline"),
            settings=wandb.Settings(console="off", silent=True, init_timeout=START, finish_timeout=PATIENCE),
        )
        self._first: int = self._run.starting_step

    def log(self, points: Sequence[Point]) -> None:
        for step, group in groupby(points, key=lambda point: point.step):
            if step >= self._first:
                self._run.log({point.key: point.value for point in group}, step=step)

    def end(self, summary: dict[str, Any] | None) -> None:
        if summary:
            self._run.summary["final"] = summary  # beside the last values of what was logged
        self._run.finish(exit_code=0 if summary else 1)


class _Trackio(_Sink):
    def __init__(self, project: str, run: About) -> None:
        import trackio

        # it knows runs by their names
        self._run = trackio.init(project, name=f"{run.name}-{run.id[:8]}", config=run.config, resume="allow")
        self._first = self._run._next_step

    def end(self, summary: dict[str, Any] | None) -> None:
        if summary:
            self._run.log(numbers(summary, "final/"), step=summary["steps"])
        self._run.finish()
