"""A run's log in the form of MLPerf's (github.com/mlcommons/logging), which its tools read."""

import json
from collections.abc import Iterable

from hpcfast.runs.events import Event

KEYS = {"robust_accuracy": "eval_accuracy"}
AGAIN = {"init_start": "requeue_start", "init_stop": "requeue_stop"}
"""Of processes that go on: MLPerf knows one ``init`` a run."""
KINDS = {"start": "INTERVAL_START", "stop": "INTERVAL_END"}


def text(events: Iterable[Event], converged: bool) -> str:
    """A line ``:::MLLOG {…}`` for each event. ``run_stop`` says ``success`` only of a confirmed target."""
    lines, keys = [], KEYS
    for event in events:
        lines.append(f":::MLLOG {json.dumps(_line(event, keys.get(event.key, event.key), converged))}\n")
        keys = KEYS | AGAIN if event.key == "run_start" else keys
    return "".join(lines)


def _line(event: Event, key: str, converged: bool) -> dict[str, object]:
    metadata = {"epoch_num": event.epoch, "step": event.step, "file": "events.jsonl", "lineno": event.line}
    if key == "run_stop":
        metadata["status"] = "success" if converged else "aborted"
    return {
        "namespace": "hpcfast",
        "time_ms": round(event.time * 1000),
        "event_type": KINDS.get(key.rpartition("_")[2], "POINT_IN_TIME"),
        "key": key,
        "value": event.value,
        "metadata": metadata,
    }
