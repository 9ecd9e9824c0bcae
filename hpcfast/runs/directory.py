"""The run directory: where its files are."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class RunDirectory:
    """Paths of a run's files (see docs/run-directory.md)."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def events(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def weights(self) -> Path:
        return self.path / "model.safetensors"

    @property
    def model(self) -> Path:
        return self.path / "model.json"

    @property
    def summary(self) -> Path:
        return self.path / "summary.json"

    @property
    def failures(self) -> Path:
        return self.path / "failures"

    @property
    def skips(self) -> Path:
        return self.path / "skips.txt"

    @property
    def evaluations(self) -> Path:
        return self.path / "evaluations"

    @property
    def figures(self) -> Path:
        return self.path / "figures"

    @property
    def explain(self) -> Path:
        return self.path / "explain.json"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    def read_summary(self) -> dict[str, Any] | None:
        """What the run reached, or None while it is unfinished."""
        return json.loads(self.summary.read_text()) if self.summary.is_file() else None
