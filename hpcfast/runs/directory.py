"""The run directory: where its files are."""

from pathlib import Path
from typing import Any

from hpcfast.runs import results


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
        self.trackers = path / "trackers"
        self.explain = path / "explain.json"
        self.report = path / "report.html"

    def read_summary(self) -> dict[str, Any] | None:
        """What the run reached, or None while it is unfinished; a UserError if the file is damaged."""
        cure = "remove it, and give 'hpcfast train' again, which writes it anew"
        return results.read(self.summary, results.Summary, cure) if self.summary.is_file() else None
