"""The predictor against public tables."""

from pathlib import Path

import pytest

from benchmarks import published

CHECKS = published.check()
DOCS = Path(__file__).parents[3] / "docs" / "scaling-predict.md"


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: f"{check.curve.name}-{check.point.ranks}")
def test_the_large_end_is_predicted_from_the_small_one_within_a_fifth(check: published.Check) -> None:
    assert abs(check.error) <= 0.2
    assert check.point.ranks > check.curve.small[-1].ranks
    row = f"| {check.curve.name} | {check.curve.small[-1].ranks} | {check.point.ranks} | {check.error:+.1%} |"
    assert row in DOCS.read_text(), "docs show another error"


def test_it_is_better_than_assuming_that_nothing_is_lost() -> None:
    ours = sum(abs(check.error) for check in CHECKS)
    assert ours < 0.5 * sum(abs(check.perfect / check.point.seconds - 1) for check in CHECKS)


def test_epochs_at_the_largest_batch_are_predicted_from_the_smaller_ones() -> None:
    found = published.epochs()
    assert found.batch == 67456
    assert abs(found.error) <= 0.2


def test_every_table_has_a_source_and_a_date() -> None:
    for curve in published.curves():
        assert curve.source
        assert curve.date
        assert len(curve.points) >= 3
        assert [point.ranks for point in curve.points] == sorted(point.ranks for point in curve.points)


def test_the_command_prints_all_errors(capsys: pytest.CaptureFixture[str]) -> None:
    published.main()
    out = capsys.readouterr().out
    assert "mean error" in out
    assert f"n = {len(CHECKS)}" in out
    assert out.count("| ResNet-50, ") + out.count("Horovod, Pascal") + out.count("MLPerf") >= len(CHECKS)
