"""TensorBoard: files in the run directory, for ``tensorboard --logdir runs``."""

import json
import shutil
from collections.abc import Sequence
from typing import Any

import yaml

from hpcfast.runs.trackers import About, Point, Tracker


class TensorBoard(Tracker):
    """TensorBoard. Its files are written anew when a run resumes, so that they hold each step once."""

    @property
    def library(self) -> str:
        return "torch.utils.tensorboard"

    @property
    def package(self) -> str:
        return "tensorboard"

    def open(self, run: About) -> "_Sink":
        return _Sink(run)


class _Sink:
    def __init__(self, run: About) -> None:
        from torch.utils.tensorboard import SummaryWriter

        shutil.rmtree(run.folder, ignore_errors=True)
        # purge_step: a TensorBoard that is open forgets what it has read of the files of before
        self._writer = SummaryWriter(run.folder, purge_step=0)
        self._text("config", yaml.safe_dump(run.config, sort_keys=False))

    def _text(self, tag: str, text: str) -> None:
        self._writer.add_text(tag, "".join(f"    {line}\n" for line in text.splitlines()))  # Markdown: code

    def log(self, points: Sequence[Point]) -> None:
        for point in points:
            self._writer.add_scalar(point.key, point.value, point.step, point.time)
        self._writer.flush()

    def end(self, summary: dict[str, Any] | None) -> None:
        if summary:
            self._text("summary", json.dumps(summary, indent=1))
        self._writer.close()
