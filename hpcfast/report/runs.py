"""Everything that a report shows of one run, read from its directory. A run need not be finished."""

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcfast.config import RunConfig, read_run
from hpcfast.errors import UserError
from hpcfast.report.history import History, tell
from hpcfast.runs import ettr, events
from hpcfast.runs.directory import RunDirectory


@dataclass(frozen=True)
class Record:
    """One run."""

    run: RunDirectory
    name: str
    """Of the folder; with the folders above it where two runs share it."""
    config: RunConfig
    summary: dict[str, Any] | None
    """None while it is unfinished."""
    history: History
    account: ettr.Account
    """Of its wall time so far."""
    evaluations: dict[str, dict[str, Any]]
    """Results of ``hpcfast eval``, by the name of their folder."""
    explanation: dict[str, Any]
    """The result of ``hpcfast explain``, or nothing."""
    unreadable: list[Path]

    @property
    def progress(self) -> str:
        """Its progress, e.g. ``epoch 3.2 of 15``."""
        of = f" of {self.config.epochs:g}" if self.config.epochs else ""
        return f"epoch {self.history.epoch:.4g}{of}"

    @property
    def warnings(self) -> list[str]:
        """Faults and doubts, shown first."""
        found = [
            f"{name}: robust accuracy may be too high, gradients look masked: {'; '.join(result['masking']['signs'])}"
            for name, result in self.evaluations.items()
            if (result.get("masking") or {}).get("suspicious")
        ]
        collapses = ((self.summary or {}).get("catastrophic_overfitting") or {}).get("collapses", [])
        found += [
            f"collapsed after epoch {collapse['epoch']}, and guard.ladder had no other attack left"
            for collapse in collapses
            if collapse["answer"] is None
        ]
        if self.run.failures.is_dir():
            found.append(f"its loss was not finite at some step: see {self.run.failures}")
        return found + [f"{path} is damaged and left out" for path in self.unreadable]

    @property
    def trained_with(self) -> str:
        """Its attack, and those that the guard chose instead."""
        return ", then ".join([self.config.attack.name, *self.history.answers])


def read(runs: list[RunDirectory]) -> list[Record]:
    """Read ``runs``, in this order.

    Raises:
        UserError: one is not a run, or its summary is damaged.
    """
    names = [run.path.resolve().name for run in runs]
    return [
        _read(run, name if names.count(name) == 1 else str(run.path)) for run, name in zip(runs, names, strict=True)
    ]


def _read(run: RunDirectory, name: str) -> Record:
    config = read_run(run)
    try:
        summary = run.read_summary()
    except ValueError as error:
        raise UserError(f"{run.summary} is damaged ({error}); remove it and resume the run") from None
    unreadable: list[Path] = []
    results = sorted(run.evaluations.glob("*/result.json"))
    evaluations = {path.parent.name: _optional(path, "attack", unreadable) for path in results}
    evaluations = {key: result for key, result in evaluations.items() if result}
    explanation = _optional(run.explain, "alignment", unreadable)
    told = events.read(run.events)
    return Record(run, name, config, summary, tell(told), ettr.account(told), evaluations, explanation, unreadable)


def _optional(path: Path, key: str, unreadable: list[Path]) -> dict[str, Any]:
    """The object of a JSON file that has ``key``; else nothing, and a file that is there is noted."""
    if not path.is_file():
        return {}
    with suppress(ValueError, TypeError):
        content = json.loads(path.read_text())
        if key in content:
            return dict(content)
    unreadable.append(path)
    return {}
