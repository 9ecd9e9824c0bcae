"""What seeds say together: MLPerf's rules, and what may not be averaged."""

import math
from typing import Any

import pytest
from scipy.stats import mannwhitneyu

from hpcfast.report.format import count
from hpcfast.runs.clock import PARTS
from hpcfast.scaling.cells import cells, gain
from hpcfast.scaling.statistics import Difference, difference, duels
from tests.unit.studies import cell, row, study_rows


@pytest.mark.parametrize(
    ("times", "mean", "why"),
    [
        ((10, 20, 30, 40, 90), 30, ""),  # fastest and slowest dropped
        ((10, 20, 30, 40, None), 30, ""),  # the one that did not converge is the slowest
        ((10, 20, 30, 40, 50, 90), 35, ""),
        ((10, 20, 30, None, None), None, "2 of 5 did not converge"),
        ((None,) * 5, None, "5 of 5 did not converge"),
        ((10, 20, 60), 30, ""),  # too few to drop one
        ((10, 20, None), None, "1 of 3 did not converge"),
        ((10,), 10, ""),
    ],
)
def test_olympic_mean(times: tuple[float | None, ...], mean: float | None, why: str) -> None:
    (only,) = cells(reversed(cell(*times)))
    assert only.ttra == pytest.approx(math.nan if mean is None else mean, rel=0, abs=0, nan_ok=True)
    assert only.why_none == why
    assert math.isnan(only.node_hours) == (mean is None)


def test_the_two_factors_multiply_to_the_time() -> None:
    for each in cells(study_rows()):
        assert each.epochs
        assert each.seconds_per_epoch
        assert each.ttra == pytest.approx(each.epochs * each.seconds_per_epoch)


def test_variation_is_of_all_runs_that_converged() -> None:
    (only,) = cells(cell(10, 20, 30, None))
    assert only.variation == pytest.approx(10 / 20)
    assert math.isnan(cells(cell(10))[0].variation)


@pytest.mark.parametrize(
    ("field", "value"), [("hardware", "other"), ("versions", "torch 1"), ("target", 0.4), ("global_batch", 1)]
)
def test_mixed_runs_are_not_averaged(field: str, value: Any) -> None:
    (only,) = cells([*cell(10, 20, 30, 40), row(4, ttra=50.0, **{field: value})])
    assert field.replace("_", " ") in only.why_none
    assert str(value) in only.why_none
    assert only.counted == ()
    numbers = (only.ttra, only.variation, only.epochs, only.images_per_second, only.joules, only.node_hours)
    assert all(map(math.isnan, numbers))
    assert only.shares == {}


def test_jobs_that_did_not_end_are_told_apart() -> None:
    absent = [row(seed, ttra=None, status=status) for seed, status in ((4, "crashed"), (5, "missing"))]
    (only,) = cells([*cell(10, 20, 30, 40), *absent])
    assert only.ttra == 25
    assert [each.status for each in only.rows if not each.done] == ["crashed", "missing"]
    assert cells(absent)[0].why_none == "no run has ended"


def test_strong_scaling_is_of_times_and_weak_scaling_of_throughput() -> None:
    rows = [
        *cell(120.0, nodes=1), *cell(40.0, nodes=4),
        *cell(120.0, nodes=2, scaling="weak", images_per_second=100.0),
        *cell(None, nodes=4, scaling="weak", images_per_second=180.0),
    ]  # fmt: skip
    found = {each.kind[2:]: gain(each, cells(rows)) for each in cells(rows)}
    assert found["strong", 4] == pytest.approx((3, 0.75))
    assert found["weak", 4] == pytest.approx((1.8, 0.9))  # not converged, but its speed is known
    assert all(map(math.isnan, gain(cells(cell(None, nodes=2))[0], cells(rows + cell(None, nodes=2)))))


def test_shares_of_time_add_up() -> None:
    (only,) = cells([row(0, seconds={"attack": 30.0, "update": 10.0}), row(1, seconds={"update": 40.0, "lost": 20.0})])
    assert set(only.shares) == set(PARTS)
    assert sum(only.shares.values()) == pytest.approx(1)
    assert only.shares["update"] == pytest.approx(0.5)
    assert cells(cell(10, seconds={}))[0].shares == {}


def test_joules_are_known_only_if_every_run_knows() -> None:
    (all_know,) = cells([row(0, joules=100.0), row(1, joules=300.0)])
    assert all_know.joules == 200
    assert math.isnan(cells([row(0, joules=100.0), row(1)])[0].joules)


A = (30.1, 31.7, 29.2, 33.5, 30.9)
B = (14.8, 15.5, 16.9, 14.1, 15.2)


def told(a: tuple[float | None, ...], b: tuple[float | None, ...]) -> Difference:
    return difference(cells(cell(*a))[0], cells(cell(*b))[0])


@pytest.mark.parametrize("b", [B, (20.0, 40.0, 28.0, 31.0), (25.0, 31.0, 28.0, 33.3, 27.0, 35.0, 26.1)])
def test_the_interval_holds_the_ratios_that_the_rank_test_does_not_refuse(b: tuple[float, ...]) -> None:
    found = told(A, b)
    assert found.ratio
    assert found.interval
    for end, inside in zip(found.interval, (1.0001, 0.9999), strict=True):
        for ratio, refused in ((end * inside, False), (end / inside, True)):
            p = mannwhitneyu(A, [value * ratio for value in b], method="exact").pvalue
            assert (p <= 0.05) == refused
    assert found.interval[0] <= found.ratio <= found.interval[1]


def test_a_run_that_did_not_converge_is_infinitely_slow() -> None:
    found = told((None, *A[1:]), B)
    assert found.interval
    assert found.interval[0] > 1
    assert found.interval[1] == math.inf
    assert told((None,) * 5, B).ratio == math.inf
    assert told(B, (None,) * 5).ratio == 0
    assert told((None,), (None,)).why_none == "no run has converged"


def test_equal_times_may_be_chance_and_half_of_them_not() -> None:
    assert told(A, A).chance
    assert told((10,) * 5, (10,) * 5).chance
    assert not told(A, B).chance


@pytest.mark.parametrize("n", [3, 1])
def test_too_few_runs_tell_nothing(n: int) -> None:
    found = told(A[:n], B[:n])
    assert found.interval is None
    assert found.why_none == f"{n} against {count(n, 'run')}: too few to tell anything"


def test_what_cannot_be_compared_says_why() -> None:
    assert (
        "mixed hardware" in difference(*cells([*cell(*A), *cell(*B, nodes=2), row(5, 2, 1.0, hardware="b")])).why_none
    )
    crashed = row(0, 2, None, status="crashed")
    assert difference(*cells([*cell(*A), crashed])).why_none == "digits, fast, strong, 2 nodes: no run has ended"


def test_methods_are_compared_with_the_slowest_at_equal_nodes() -> None:
    found = duels(cells(study_rows()))
    assert [(duel.a.kind.method, duel.b.kind[1:]) for duel in found] == [
        ("pgd7", ("fast", scaling, nodes)) for scaling in ("strong", "weak") for nodes in (1, 2, 4)
    ]
    assert all(duel.ratio and 2.5 < duel.ratio < 3.5 for duel in found)
