"""The report of campaigns/chaos: what a fault cost, and whether what was said of it names who had it."""

import json
from pathlib import Path
from typing import Any

import pytest

from campaigns.chaos import report

NAMED = "rank 1 on host n2 was killed, by somebody"


def write(folder: Path, name: str, lines: list[dict[str, Any]]) -> None:
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def log(*steps: tuple[float, int]) -> list[dict[str, Any]]:
    return [{"time": time, "key": "train_loss", "value": 1.0, "step": step, "epoch": 0.0} for time, step in steps]


def fault(time: float, kind: str) -> dict[str, Any]:
    return {"time": time, "kind": "fault", "text": kind, "rank": 1, "node": "n2"}


def test_a_fault_costs_until_the_step_that_it_struck_is_passed() -> None:
    events = log((1, 1), (2, 2), (3, 3), (4, 4), (14, 2), (15, 3), (16, 4), (17, 5), (18, 6))
    assert report.lost(events) == [(17, 12)], "13 seconds from step 4 to step 5, of which a step takes one"


@pytest.mark.parametrize(
    ("line", "noticed", "named"),
    [(NAMED, 0.5, True), (NAMED.replace("n2", "n3"), 0.5, False), ("rank 1 was killed", None, False)],
)
def test_who_is_named_is_compared_with_who_had_it(
    tmp_path: Path, line: str, noticed: float | None, named: bool
) -> None:
    write(tmp_path, "acts", [fault(4.5, "rank killed"), fault(20, "USR2")])
    write(tmp_path, "said", [{"time": 5, "line": line}, {"time": 21, "line": "USR2: stopping"}])
    write(tmp_path, "events", log((1, 1), (2, 2), (3, 3), (4, 4), (16, 4), (17, 5), (18, 6)))
    first, second = report.outcomes(tmp_path)
    assert (first.kind, first.cost, first.noticed, first.named) == ("rank killed", 12, noticed, named)
    assert (second.kind, second.cost, second.noticed) == ("USR2", 0, 1)
