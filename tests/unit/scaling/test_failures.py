"""Failures of nodes: Daly's formula against runs that are drawn, and what is said where a run would hardly end."""

import math

import numpy as np
import pytest

from hpcfast.scaling.predict.model import Failures

YEARS = 365 * 86400.0


def drawn(failures: Failures, nodes: int, work: float, interval: float, n: int = 1000) -> tuple[float, float]:
    """Mean run time of ``n`` runs with exponential failures, and its standard error."""
    random, times = np.random.default_rng(nodes), np.zeros(n)
    for i in range(n):
        for piece in np.diff([*np.arange(0, work, interval), work]):
            begin = 0.0
            while (up := random.exponential(failures.mtbf / nodes)) < begin + piece + failures.checkpoint:
                times[i] += up
                begin = failures.restart
            times[i] += begin + piece + failures.checkpoint
    return float(times.mean()), float(times.std() / math.sqrt(n))


@pytest.mark.parametrize("nodes", [1, 1024, 16384])
def test_the_expected_time_is_that_of_drawn_runs(nodes: int) -> None:
    failures = Failures(mtbf=5 * YEARS, checkpoint=60, restart=300)
    interval = failures.interval(nodes)
    work = interval * max(1, round(86400 / interval))
    mean, error = drawn(failures, nodes, work, interval)
    assert abs(mean - failures.expected(nodes, work)) < 4 * error + 1e-3 * mean


def test_the_interval_is_youngs_to_first_order_and_loses_least() -> None:
    failures = Failures(mtbf=5 * YEARS, checkpoint=60, restart=300)
    best = failures.interval(4096)
    assert best == pytest.approx(math.sqrt(2 * 60 * 5 * YEARS / 4096), rel=0.05)
    means = [drawn(failures, 4096, 40 * best, interval, 300)[0] for interval in (best, best / 8, best * 8)]
    assert means[0] == min(means)


def test_without_failures_to_speak_of_a_run_is_its_work_and_a_checkpoint() -> None:
    assert Failures(mtbf=1e15, checkpoint=10, restart=30).expected(4, 1000) == pytest.approx(1010)


def test_a_run_whose_nodes_fail_before_a_checkpoint_never_ends() -> None:
    failures = Failures(mtbf=86400, checkpoint=60, restart=300)
    assert failures.expected(100_000, 1e5) == math.inf
    assert failures.interval(100_000) == pytest.approx(0.864)
