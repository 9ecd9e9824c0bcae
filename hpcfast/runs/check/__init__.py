"""Whether the log of a run can be believed: complete, possible, and in agreement with its summary."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcfast.errors import UserError
from hpcfast.runs.check.outcome import contradictions
from hpcfast.runs.check.reading import Event, read, terms
from hpcfast.runs.check.rules import Rules

__all__ = ["Event", "Sound", "check"]


@dataclass(frozen=True)
class Sound:
    """A finished run whose log holds."""

    run: Path
    events: list[Event]
    summary: dict[str, Any]

    @property
    def converged(self) -> bool:
        """Whether it has a time to robust accuracy."""
        return self.summary["time_to_robust_accuracy_seconds"] is not None

    def __str__(self) -> str:
        counts = Counter(event.key for event in self.events)
        told = f"{self.run}: sound: {self.events[-1].epoch:g} epochs, {self.events[-1].step} steps"
        told += f", requeues: {counts['requeue']}, rollbacks: {counts['rollback']}"
        if self.converged:
            seconds, target = self.summary["time_to_robust_accuracy_seconds"], self.summary["target"]
            return f"{told}; robust accuracy {target:g} after {seconds:,.1f} s, confirmed"
        return f"{told}; {'no target' if self.summary['target'] is None else 'not converged'}"


def check(run: Path) -> Sound:
    """Read the log of the finished run in the folder ``run``.

    Raises:
        UserError: it is no run, or its log is incomplete or impossible: a line for each fault.
    """
    log, summary = run / "events.jsonl", run / "summary.json"
    if not log.is_file() or not (run / "config.yaml").is_file():
        raise UserError(f"{run} is no run directory: it has no config.yaml or no events.jsonl")
    try:
        rules = Rules(terms(run / "config.yaml"))
        events, faults = read(log)
        for event in events:
            rules.look(event)
        faults = sorted([*faults, *rules.faults], key=lambda fault: fault.line)
        lines = [f"{log}:{fault.line}: {fault.what}" for fault in faults]
        said: dict[str, Any] = json.loads(summary.read_text()) if summary.is_file() else {}
        if not events or events[-1].key != "run_stop" or not said:
            lines.append(f"{run} is unfinished: it has no run_stop at the log's end, or no summary.json; train it on")
        elif not lines:
            lines = [f"{summary}: {what}" for what in contradictions(said, rules)]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{run}: config.yaml or summary.json is damaged or of another version ({error!r})") from None
    if lines:
        raise UserError("\n".join(lines))
    return Sound(run, events, said)
