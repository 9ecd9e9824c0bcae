"""How often a run fails, and how often it should be saved for that."""

import math
from typing import Any

import pytest

from hpcfast.runs import failures
from hpcfast.runs.failures import PRIOR, History, interval


def log(*keys: str) -> list[dict[str, Any]]:
    """Events, a minute apart."""
    return [{"time": 60.0 * number, "key": key} for number, key in enumerate(keys)]


@pytest.mark.parametrize(
    ("checkpoint", "mean", "seconds"), [(60, 86400, 3180.1), (300, 86400, 7001.4), (10, 3600, 261.7), (5, 2, 2)]
)
def test_the_interval_is_dalys(checkpoint: float, mean: float, seconds: float) -> None:
    assert interval(checkpoint, mean) == pytest.approx(seconds, rel=1e-4)


def test_the_interval_loses_least() -> None:
    """In Daly's exact expectation of the run time, a unit of work."""

    def expected(every: float) -> float:
        return math.expm1((every + 30) / 7200) / every

    best = interval(30, 7200)
    assert expected(best) < min(expected(0.9 * best), expected(1.1 * best))


STARTED = ("init_start", "init_stop", "run_start", "checkpoint_start", "checkpoint_stop")


@pytest.mark.parametrize(
    ("keys", "failures", "minutes"),
    [
        ((), 0, 0),
        (STARTED, 1, 4),
        ((*STARTED, "run_interrupted"), 0, 5),
        ((*STARTED, "run_interrupted", *STARTED), 1, 9),
        ((*STARTED, *STARTED, "run_aborted", "init_start"), 3, 9),
        ((*STARTED, *STARTED, "run_stop"), 1, 9),
    ],
)  # fmt: skip
def test_a_process_that_ended_unasked_has_failed(keys: tuple[str, ...], failures: int, minutes: int) -> None:
    """Between two processes there is a queue: nothing ran that could have failed."""
    history = History.of(log(*keys), 1)
    assert (history.failures, history.seconds) == (failures, 60 * minutes)
    assert history.checkpoints == [60.0] * keys.count("checkpoint_stop")


def test_the_mean_time_is_a_guess_until_there_are_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures.time, "monotonic", lambda: 4000.0)
    assert History(began=4000).mean_time == PRIOR
    assert History(nodes=8, began=4000).mean_time == PRIOR / 8
    found = History(failures=9, seconds=36000, nodes=8, began=400).mean_time
    assert found == pytest.approx((PRIOR / 8 + 39600) / 10)
