"""The run directory: where its files are."""

import json
from pathlib import Path
from typing import Any


class RunDirectory:
    """Paths of a run's files (see docs/run-directory.md)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.events = path / "events.jsonl"
        self.checkpoints = path / "checkpoints"
        self.weights = path / "model.safetensors"
        self.model = path / "model.json"
        self.summary = path / "summary.json"
        self.failures = path / "failures"
        self.stacks = path / "stacks"
        self.skips = path / "skips.txt"
        self.evaluations = path / "evaluations"
        self.figures = path / "figures"
        self.explain = path / "explain.json"
        self.report = path / "report.html"

    def read_summary(self) -> dict[str, Any] | None:
        """What the run reached, or None while it is unfinished."""
        return json.loads(self.summary.read_text()) if self.summary.is_file() else None
