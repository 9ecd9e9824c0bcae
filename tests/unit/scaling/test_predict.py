"""Predictions: the formulas, the fit, and what is said where data do not suffice."""

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from hpcfast.cli import scaling
from hpcfast.cli.scaling import app, counts
from hpcfast.errors import UserError
from hpcfast.scaling import collect
from hpcfast.scaling.predict import epochs, forecast, steps
from hpcfast.scaling.predict.epochs import Reached
from hpcfast.scaling.predict.model import Failures
from hpcfast.scaling.predict.steps import Point, Steps
from tests.unit import studied


@pytest.mark.parametrize("growth", steps.GROWTHS)
def test_a_fit_finds_the_model_that_made_the_points(growth: steps.Growth) -> None:
    true = Steps({"image": 1e-3, "fixed": 2e-3, "grown": 5e-4}, growth)
    points = [Point(n, 256 / n, true.seconds(n, 256 / n)) for n in (1, 2, 4, 8, 16)]
    found = steps.fit(points, growth)
    assert found.seconds(64, 4) == pytest.approx(true.seconds(64, 4), rel=1e-6)
    assert growth in [each.growth for each in steps.believable(points)]


@pytest.mark.parametrize(("places", "terms"), [(2, 2), (3, 2), (4, 3), (5, 3)])
def test_few_points_have_few_parameters(places: int, terms: int) -> None:
    points = [Point(2**i, 64 / 2**i, 1 / 2**i + i) for i in range(places)]  # strong: three can be told apart
    assert len(steps.fit(points).coefficients) == terms


def test_what_cannot_be_told_apart_is_not_fitted() -> None:
    points = [Point(n, 64, 1 + math.log2(n)) for n in (1, 2, 4, 8, 16)]  # always the same batch a rank
    assert "fixed" not in steps.fit(points).coefficients


def test_what_ranks_share_beside_their_steps_is_predicted_with_them() -> None:
    """An evaluation takes ten seconds on one rank, half as long on two."""
    rows = [
        replace(row, seconds=seconds, ttra=sum(seconds.values()))
        for row in studied.rows(nodes=(1, 2, 4), noise=0)
        for seconds in [row.seconds | {"evaluation": 10 / row.ranks * (row.epochs or 0.0)}]
    ]
    (found,), _ = forecast.forecasts(rows, [1, 2, 4])
    assert max(map(abs, found.held_out.values())) < 0.03


@pytest.mark.parametrize("growth", steps.GROWTHS)
def test_waiting_that_was_measured_is_told_from_computing(growth: steps.Growth) -> None:
    true = Steps({"image": 1e-3, "fixed": 2e-3, "grown": 5e-4}, growth)
    points = [
        Point(n, batch, true.seconds(n, batch), true.seconds(n, batch) - true.seconds(1, batch))
        for n, batch in ((1, 64), (2, 32), (4, 16))
    ]
    for held in points:  # of three places only, which whole step times would not suffice for
        found = steps.fit([point for point in points if point is not held], growth)
        assert found.seconds(held.ranks, held.batch) == pytest.approx(held.seconds)


def test_runs_whose_ranks_shared_cores_are_left_out_with_a_warning() -> None:
    rows = studied.rows(nodes=(1, 2, 4))  # of two ranks a node
    (without,), _ = forecast.forecasts(rows[:10], [1, 2, 4])
    for slots, left_out in ((None, []), (8, []), (4, ["not fitted: 4, where ranks shared cores or GPUs"])):
        (found,), _ = forecast.forecasts([replace(row, slots=slots) for row in rows], [1, 2, 4])
        assert [note.partition(";")[0] for note in found.notes if "shared cores" in note] == left_out
        assert (found.rows == without.rows) == bool(left_out)
    with pytest.raises(UserError, match="1 rank count measured.*runs whose ranks shared cores or GPUs do not count"):
        forecast.forecasts([replace(row, slots=2) for row in rows], [1, 2, 4])
    with pytest.raises(UserError, match="the ranks of every run shared cores or GPUs"):
        forecast.forecasts([replace(row, slots=1) for row in rows], [1, 2, 4])


def test_epochs_follow_the_law_from_batches_or_from_the_noise_scale() -> None:
    by_batch = epochs.fit([Reached(b, 10 * (1 + b / 4000)) for b in (100, 1000, 8000)])
    assert (by_batch.at(16000), by_batch.noise) == (pytest.approx(50), pytest.approx(4000))
    by_noise = epochs.fit([Reached(4000, 20, 4000.0)])
    assert (by_noise.least, by_noise.at(8000)) == (pytest.approx(10), pytest.approx(30))


def test_epochs_of_another_batch_are_unknown_without_a_noise_scale() -> None:
    known = epochs.fit([Reached(512, 12)])
    assert (known.at(512), known.at(1024), known.noise) == (12, None, None)
    assert epochs.fit([Reached(512, 12), Reached(1024, 12)]).noise == math.inf


@pytest.mark.parametrize("noise", [None, 4000.0])
def test_a_target_is_met_before_it_is_seen(noise: float | None) -> None:
    batches = (1000, 8000) if noise is None else (1000,)
    known = epochs.fit([Reached(b, 10 * (1 + b / 4000) + 1, noise, 2) for b in batches])
    assert (known.noise, known.at(2000)) == (pytest.approx(4000), pytest.approx(16))  # 15, seen one later
    assert not known.unseen


def test_targets_that_are_met_before_the_first_look_are_named() -> None:
    early = studied.rows((1, 2, 4), epochs=2.0, every=2)
    (found,), _ = forecast.forecasts(early, [1])
    assert found.rows[0]["epochs"] == pytest.approx(2)
    assert any("raise the target" in note for note in found.notes)
    (later,), _ = forecast.forecasts(studied.rows((1, 2, 4), every=2), [1])
    assert not any("raise the target" in note for note in later.notes)


@pytest.mark.parametrize("scaling", ["strong", "weak"])
def test_node_counts_held_out_are_predicted_within_a_tenth(scaling: str) -> None:
    (found,), refused = forecast.forecasts(studied.rows(scaling=scaling), [1, 4, 16], price=3.0)
    assert not refused
    assert sorted(found.held_out) == [1, 2, 4, 8, 16]
    assert max(map(abs, found.held_out.values())) < 0.1
    for at in found.rows:
        assert at["low"] < at["measured"] < at["high"]
        assert at["cost"] == pytest.approx(3 * at["nodes"] * at["ttra"] / 3600)
        assert at["node_hours"] == pytest.approx(at["cost"] / 3)


def test_far_predictions_are_less_certain_and_the_knee_is_found() -> None:
    (found,), _ = forecast.forecasts(studied.rows(), [1, 4, 64, 512, 4096])
    widths = [at["high"] / at["low"] for at in found.rows]
    assert widths[0] < widths[2] < widths[3]
    assert any(note.startswith("left out: 4,096 nodes. A batch of") for note in found.notes)
    assert found.knee is not None
    assert 8 <= found.knee <= 64
    assert all(later["efficiency"] < at["efficiency"] for at, later in zip(found.rows, found.rows[1:], strict=False))


def test_of_two_node_counts_none_can_be_held_out_and_no_range_is_given() -> None:
    (found,), _ = forecast.forecasts(studied.rows((1, 2)), [4])
    assert not found.held_out
    assert (found.rows[0]["low"], found.rows[0]["high"]) == (None, None)
    assert any("unknown, it takes three" in note for note in found.notes)


def test_failures_cost_time_and_more_on_more_nodes() -> None:
    (found,), _ = forecast.forecasts(studied.rows(), [1, 64], failing=Failures(mtbf=3600, checkpoint=1, restart=1))
    lost = [at["with_failures"] / at["ttra"] for at in found.rows]
    assert 1 < lost[0] < lost[1]
    assert found.rows[0]["checkpoint_every"] > found.rows[1]["checkpoint_every"]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "no runs"),
        (studied.rows((2,)), "at least two"),
        (studied.rows((1, 2), status="crashed", steps=None), "run the study first"),
        (studied.rows((1, 2), status="not converged", ttra=None), "no run met its target"),
        ([*studied.rows((1,)), *studied.rows((2,), hardware="another")], "mixed hardware"),
        (studied.rows((1, 2), scaling="weak", noise_scale=None)[:5], "at least two"),
    ],
)
def test_too_little_is_refused(rows: list[studied.Row], words: str) -> None:
    with pytest.raises(UserError, match=words):
        forecast.forecasts(rows, [1, 2, 4])


@pytest.mark.parametrize(
    ("text", "nodes"), [("1,2,6", [1, 2, 6]), ("1..8", [1, 2, 4, 8]), ("3..20", [3, 6, 12, 20]), ("5..5", [5])]
)
def test_node_counts(text: str, nodes: list[int]) -> None:
    assert counts(text) == nodes


@pytest.mark.parametrize("text", ["", "0..4", "8..4", "many", "1,,2", "1..2..4", "-1"])
def test_wrong_node_counts(text: str) -> None:
    with pytest.raises(UserError, match="--nodes"):
        counts(text)


def test_the_command_prints_and_writes_a_page_and_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [*studied.rows((1, 2, 4)), *studied.rows((1,), method="pgd7")]
    given = SimpleNamespace(title="A study", folder=tmp_path, price_per_node_hour=None)
    monkeypatch.setattr(scaling, "read", lambda file: (given, []))
    monkeypatch.setattr(collect, "rows", lambda study: rows)
    out = tmp_path / "out.json"
    done = CliRunner().invoke(app, ["predict", "any.yaml", "--nodes", "1..64", "--mtbf", "9", "--json", str(out)])
    assert done.exit_code == 0, done.output
    assert "error on node counts held out of the fit: 1: " in done.output
    assert "no prediction for d, pgd7, strong" in done.output
    page = (tmp_path / "prediction.md").read_text()
    assert "## d, fast, strong scaling" in page
    assert "knee" in page
    assert "with failures" in page
    assert "cost" not in page, "there is no price"
    (numbers,) = json.loads(out.read_text())["forecasts"]
    assert [row["nodes"] for row in numbers["rows"]] == [1, 2, 4, 8, 16, 32, 64]
