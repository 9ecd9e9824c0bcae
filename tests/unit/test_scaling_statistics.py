"""What seeds say together: MLPerf's rules, and what may not be averaged."""

from typing import Any

import pytest

from hpcfast.scaling.cells import cells, gain
from hpcfast.scaling.rows import PARTS
from hpcfast.scaling.statistics import suspicious
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
    assert only.ttra == mean
    assert only.why_none == why
    assert (only.node_hours is None) == (mean is None)


def test_the_two_factors_multiply_to_the_time() -> None:
    for each in cells(study_rows()):
        assert each.epochs
        assert each.seconds_per_epoch
        assert each.ttra == pytest.approx(each.epochs * each.seconds_per_epoch)


def test_variation_is_of_all_runs_that_converged() -> None:
    (only,) = cells(cell(10, 20, 30, None))
    assert only.variation == pytest.approx(10 / 20)
    assert cells(cell(10))[0].variation is None


@pytest.mark.parametrize(
    ("field", "value"), [("hardware", "other"), ("versions", "torch 1"), ("target", 0.4), ("global_batch", 1)]
)
def test_mixed_runs_are_not_averaged(field: str, value: Any) -> None:
    (only,) = cells([*cell(10, 20, 30, 40), row(4, ttra=50.0, **{field: value})])
    assert field.replace("_", " ") in only.why_none
    assert str(value) in only.why_none
    assert only.counted == ()
    numbers = (only.ttra, only.variation, only.epochs, only.images_per_second, only.joules, only.cost(1.0))
    assert numbers == (None,) * 6
    assert only.shares == {}


def test_jobs_that_did_not_end_are_told_apart() -> None:
    absent = [row(seed, ttra=None, status=status) for seed, status in ((4, "crashed"), (5, "missing"))]
    (only,) = cells([*cell(10, 20, 30, 40), *absent])
    assert only.ttra == 25
    assert [each.status for each in only.absent] == ["crashed", "missing"]
    assert cells(absent)[0].why_none == "no run has ended"


def test_strong_scaling_is_of_times_and_weak_scaling_of_throughput() -> None:
    rows = [
        *cell(120.0, nodes=1), *cell(40.0, nodes=4),
        *cell(120.0, nodes=2, scaling="weak", images_per_second=100.0),
        *cell(None, nodes=4, scaling="weak", images_per_second=180.0),
    ]  # fmt: skip
    found = {each.key[2:]: gain(each, cells(rows)) for each in cells(rows)}
    strong, weak = found["strong", 4], found["weak", 4]
    assert strong
    assert weak
    assert (strong.speed_up, strong.efficiency) == pytest.approx((3, 0.75))
    assert (weak.speed_up, weak.efficiency) == pytest.approx((1.8, 0.9))  # not converged, but its speed is known
    assert gain(cells(cell(None, nodes=2))[0], cells(rows + cell(None, nodes=2))) is None


def test_shares_of_time_add_up() -> None:
    (only,) = cells([row(0, seconds={"attack": 30.0, "update": 10.0}), row(1, seconds={"update": 40.0, "lost": 20.0})])
    assert set(only.shares) == set(PARTS)
    assert sum(only.shares.values()) == pytest.approx(1)
    assert only.shares["update"] == pytest.approx(0.5)
    assert cells(cell(10, seconds={}))[0].shares == {}


def test_joules_are_known_only_if_every_run_knows() -> None:
    (all_know,) = cells([row(0, joules=100.0), row(1, joules=300.0)])
    assert all_know.joules == 200
    assert cells([row(0, joules=100.0), row(1)])[0].joules is None
    assert all_know.cost(3.6) == pytest.approx(0.1)
    assert all_know.cost(None) is None


def epochs(values: tuple[float, ...], nodes: int, batch: int = 64, **changed: Any) -> list[Any]:
    return [
        row(seed, nodes, epochs=value, global_batch=batch, **changed) for seed, value in enumerate(values)
    ]  # fmt: skip


SOME = (9.0, 10.0, 11.0)


@pytest.mark.parametrize(
    ("values", "batch", "flagged"),
    [
        ((4.0, 5.0, 6.0), 64, True),
        (SOME, 64, False),
        ((8.0, 10.0, 11.0), 64, False),
        ((19.0, 20.0, 21.0), 64, False),  # slower is no wonder
        ((5.0,), 64, False),  # one run proves nothing
        ((5.0, 5.0), 64, True),
        ((13.0, 14.0, 15.0), 128, False),  # the line from 10 at 64 to 20 at 256 is at 15
        ((10.0, 10.5, 11.0), 128, True),
        ((1.0, 1.1, 1.2), 512, False),  # beyond the reference
    ],
)
def test_a_cell_that_needs_too_few_epochs_is_flagged(values: tuple[float, ...], batch: int, flagged: bool) -> None:
    reference = [*epochs(SOME, 1), *epochs((19.0, 20.0, 21.0), 1, batch=256, scaling="weak")]
    found = cells([*reference, *epochs(values, 4, batch), *epochs((1.0, 1.0, 1.0), 4, method="other")])
    flags = {each.key: suspicious(each, found) for each in found}
    assert bool(flags["digits", "fast", "strong", 4]) == flagged
    assert not any(flags[each.key] for each in found if each.nodes == 1)
    assert not flags["digits", "other", "strong", 4]  # has no reference of its own


def test_equal_epochs_without_spread_can_be_suspicious() -> None:
    found = cells([*epochs((4.0, 4.0), 1), *epochs((3.0, 3.0), 2)])
    assert "3 epochs to the target, where the reference at a global batch of 64 needs 4" in suspicious(found[1], found)
