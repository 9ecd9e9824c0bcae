"""The effective training time ratio of made-up logs, whose answer is known."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcfast.runs.ettr import PARTS, account

Log = list[tuple[float, str, int, Any]]
"""Time, key, step, value."""


def events(log: Log) -> list[dict[str, Any]]:
    return [{"time": time, "key": key, "step": step, "value": value, "epoch": 0.0} for time, key, step, value in log]


def spent(log: Log) -> dict[str, float]:
    return {part: seconds for part, seconds in account(events(log)).seconds.items() if seconds}


def begin(time: float, step: int = 0, value: Any = None) -> Log:
    """A process starts within three seconds; a run's first saves within one more."""
    key = "requeue" if step or value == "again" else "run_start"
    return [(time, "init_start", 0, None), (time + 2, "init_stop", step, None), (time + 3, key, step, {})]


TRAINED: Log = [(13, "epoch_start", 0, None), (17, "train_loss", 10, 1.0)]
SAVED: Log = [(20, "epoch_stop", 20, None), (20, "checkpoint_start", 20, None), (22, "checkpoint_stop", 20, None)]


def test_a_run_without_faults() -> None:
    log = [*begin(10), *TRAINED, *SAVED, (22, "eval_start", 20, "monitor"), (25, "eval_stop", 20, None)]
    log += [(27, "eval_start", 20, "final"), (90, "eval_stop", 20, {}), (91, "run_stop", 20, {})]
    assert spent(log) == {"start": 3, "training": 7, "checkpoint": 2, "evaluation": 3, "other": 2}
    assert account(events(log)).ratio == pytest.approx(7 / 17)
    assert account(events(log)).starts == 1


def test_the_guard_is_an_evaluation() -> None:
    assert spent([*begin(10), *TRAINED, *SAVED, (24, "guard", 20, {})])["evaluation"] == 2


def test_steps_after_the_last_checkpoint_are_repeated() -> None:
    """Killed at step 30, 4 seconds after its checkpoint of step 20; found again 9 seconds later."""
    log = [*begin(10), *TRAINED, *SAVED, (22, "epoch_start", 20, None), (26, "train_loss", 30, 1.0)]
    log += [*begin(35, 20), (38, "epoch_start", 20, None), (43, "train_loss", 30, 1.0)]
    assert spent(log) == {"start": 6, "training": 7 + 5, "checkpoint": 2, "repeated": 4, "down": 9}


def test_of_an_interval_with_a_checkpoint_in_it_a_part_is_repeated() -> None:
    """Ten steps in 4 seconds, of which the last quarter is lost."""
    log = [*begin(10), (13, "epoch_start", 0, None), (17, "train_loss", 12, 1.0), *begin(17, 9)]
    assert spent(log) == {"start": 6, "training": 3, "repeated": 1}


def test_a_rollback_undoes_an_epoch() -> None:
    log = [*begin(10), *TRAINED, *SAVED, (25, "guard", 20, {}), (26, "rollback", 0, {}), (26, "epoch_start", 0, None)]
    log += [(30, "train_loss", 10, 1.0)]
    found = spent(log)
    assert (found["repeated"], found["training"]) == (7, 4)


def test_a_lost_rank_is_waited_for() -> None:
    """The last line says that five of the twelve seconds since step 10 went into waiting."""
    aborted = (29, "run_aborted", 16, {"why": "a rank has fallen silent", "waited": 5})
    log = [*begin(10), *TRAINED, aborted, *begin(31)]
    assert spent(log) == {"start": 6, "repeated": 4 + 7, "waiting": 5, "down": 2}


def test_time_in_a_queue() -> None:
    """Stopped at 17, requeued; the next job began at 60 and took four seconds to the first line."""
    log = [*begin(10), *TRAINED, (17, "run_interrupted", 10, 15), (64, "init_start", 0, {"job_started": 60.0})]
    assert spent([*log, (66, "init_stop", 10, None)]) == {"start": 3 + 4 + 2, "training": 4, "queue": 43}


def test_a_restart_in_the_same_job_was_not_queued() -> None:
    log = [*begin(10), *TRAINED, (20, "init_start", 0, {"job_started": 5.0})]
    assert spent(log) == {"start": 3, "training": 4, "down": 3}


def test_training_that_goes_on_after_the_final_evaluation_counts() -> None:
    """Its last checkpoint was damaged: an older one is taken, and steps are trained again."""
    log = [*begin(10), *TRAINED, *SAVED, (22, "eval_start", 20, "final"), (40, "eval_stop", 20, {}), *begin(50)]
    log += [(53, "epoch_start", 0, None), (60, "epoch_stop", 20, None), (61, "eval_start", 20, "final")]
    assert spent(log)["training"] == 7
    assert spent(log)["repeated"] == 7


@pytest.mark.parametrize("log", [[], begin(10)[:1]])
def test_what_has_hardly_begun_has_no_time(log: Log) -> None:
    assert account(events(log)).wall == account(events(log)).ratio == 0


KEYS = ("init_start", "init_stop", "epoch_start", "epoch_stop", "checkpoint_start", "checkpoint_stop", "train_loss")


@given(st.lists(st.tuples(st.floats(0, 100), st.sampled_from(KEYS), st.integers(0, 9)), min_size=1))
def test_the_parts_of_any_log_add_up(steps: list[tuple[float, str, int]]) -> None:
    log: Log = []
    for gap, key, step in steps:
        log.append((gap + (log[-1][0] if log else 0), key, step, None))
    found = account(events(log))
    assert set(found.seconds) == set(PARTS)
    assert min(found.seconds.values()) >= 0
    assert found.wall == pytest.approx(log[-1][0] - log[0][0])
