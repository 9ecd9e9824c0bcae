"""Predictions: the formulas, the fit, and what is said where data do not suffice."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from hpcfast.cli.scaling import app
from hpcfast.cli.scaling_predict import counts
from hpcfast.errors import UserError
from hpcfast.scaling.collect import write_csv
from hpcfast.scaling.predict import epochs, evidence, fit, forecast, model, network, show
from hpcfast.scaling.predict.epochs import Reached
from hpcfast.scaling.predict.fit import Point
from hpcfast.scaling.predict.model import Steps
from hpcfast.scaling.predict.network import Network
from tests.unit import studied


def test_an_allreduce_costs_nothing_alone_and_its_traffic_and_messages_with_many() -> None:
    assert Network(1e-5, 1e9, 1e8).seconds(1) == 0
    assert Network(0, 1e9, 1e8).seconds(64) == pytest.approx(2 * 63 / 64 * 0.1)
    assert Network(1e-5, 1e9, 0).seconds(64) == pytest.approx(12e-5)


@pytest.mark.parametrize("ranks", [1, 2, 16, 1024])
def test_the_slowest_rank_is_as_slow_as_drawn_ones(ranks: int) -> None:
    drawn = np.random.default_rng(0).standard_normal((4000, ranks)).max(axis=1)
    assert model.slowest(ranks, 0.1) == pytest.approx(1 + 0.1 * drawn.mean(), abs=0.006)


@pytest.mark.parametrize("growth", model.GROWTHS)
def test_a_fit_finds_the_model_that_made_the_points(growth: model.Growth) -> None:
    true = Steps({"image": 1e-3, "fixed": 2e-3, "grown": 5e-4}, growth)
    points = [Point(n, n, 256 / n, true.seconds(n, 256 / n)) for n in (1, 2, 4, 8, 16)]
    found = fit.steps(points, growth)
    assert found.seconds(64, 4) == pytest.approx(true.seconds(64, 4), rel=1e-6)
    assert fit.misfit(found, points) < 1e-6


@pytest.mark.parametrize(("places", "terms"), [(2, 2), (3, 2), (4, 3), (5, 3)])
def test_few_points_have_few_parameters(places: int, terms: int) -> None:
    points = [Point(2**i, 2**i, 64 / 2**i, 1 / 2**i + i) for i in range(places)]  # strong: three can be told apart
    assert len(fit.steps(points).coefficients) == terms


def test_what_cannot_be_told_apart_is_not_fitted() -> None:
    points = [Point(n, n, 64, 1 + math.log2(n)) for n in (1, 2, 4, 8, 16)]  # always the same batch a rank
    assert "fixed" not in fit.steps(points).coefficients


def test_of_an_evaluation_only_some_is_shared() -> None:
    """A second an epoch is, half a second is not."""
    rows = [
        replace(row, seconds=row.seconds | {"evaluation": (1 / row.ranks + 0.5) * (row.epochs or 0.0)})
        for row in studied.rows(nodes=(1, 2, 4))
    ]
    found = evidence.gather(rows).beside
    assert (found.shared, found.fixed) == (pytest.approx(1), pytest.approx(0.5))
    assert found.seconds(8, 10) == pytest.approx(found.start + 10 * (1 / 8 + 0.5 + found.rest))
    one = evidence.gather([row for row in rows if row.nodes == 1]).beside
    assert (one.shared, one.fixed) == (pytest.approx(2), 0.0), "one rank count cannot tell"
    without = [replace(row, seconds={"update": 1.0}) for row in rows]
    assert evidence.gather(without).beside.seconds(4, 10) == 0


@pytest.mark.parametrize("growth", model.GROWTHS)
def test_waiting_that_was_measured_is_told_from_computing(growth: model.Growth) -> None:
    true = Steps({"image": 1e-3, "fixed": 2e-3, "grown": 5e-4}, growth)
    points = [
        Point(n, n, batch, true.seconds(n, batch), true.parts(n, batch)["communication"])
        for n, batch in ((1, 64), (2, 32), (4, 16))
    ]
    for held in points:  # of three places only, which whole step times would not suffice for
        found = fit.steps([point for point in points if point is not held], growth)
        assert found.seconds(held.ranks, held.batch) == pytest.approx(held.seconds)


def test_runs_whose_ranks_shared_cores_are_left_out_with_a_warning() -> None:
    rows = studied.rows(nodes=(1, 2, 4))  # of two ranks a node
    (without,), _ = forecast.forecasts(rows[:10], [1, 2, 4])
    for slots, left_out in ((None, []), (8, []), (4, ["not fitted: 4, where ranks shared cores or GPUs"])):
        (found,), _ = forecast.forecasts([replace(row, slots=slots) for row in rows], [1, 2, 4])
        assert [note.partition(";")[0] for note in show.notes(found) if "shared cores" in note] == left_out
        assert (found.rows == without.rows) == bool(left_out)
    with pytest.raises(UserError, match="1 rank count measured.*runs whose ranks shared cores or GPUs do not count"):
        forecast.forecasts([replace(row, slots=2) for row in rows], [1, 2, 4])
    with pytest.raises(UserError, match="the ranks of every run shared cores or GPUs"):
        forecast.forecasts([replace(row, slots=1) for row in rows], [1, 2, 4])


def test_measured_communication_is_hidden_behind_compute() -> None:
    known = Network(1e-3, 1e9, 1e8, overlap=0.5)
    true = Steps({"image": 2e-3, "fixed": 1e-3}, network=known)
    points = [Point(n, n, 256 / n, true.seconds(n, 256 / n)) for n in (1, 2, 8)]
    found = fit.steps(points, network=known)
    assert found.coefficients == pytest.approx(true.coefficients, rel=1e-4)
    assert found.parts(1, 256)["communication"] == 0 < found.parts(256, 1)["communication"]
    with pytest.raises(UserError, match="a whole step took"):
        fit.steps(points, network=Network(1, 1e9, 1e8))


def test_the_network_is_read_from_bench_allreduce(tmp_path: Path) -> None:
    file = tmp_path / "allreduce.json"
    found = {"ranks": 4, "gradient_bytes": 4e7, "latency_seconds": 4e-4, "bytes_per_second": 1e9}
    file.write_text(json.dumps(found))
    assert network.read(file).seconds(4) == pytest.approx(4e-4 + 4e7 / 1e9)
    for wrong, words in ((found | {"ranks": 1}, "two or more"), ({"ranks": 2}, "gradient_bytes")):
        file.write_text(json.dumps(wrong))
        with pytest.raises(UserError, match=words):
            network.read(file)


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
    assert found.rows[0].epochs == pytest.approx(2)
    assert any("raise the target" in note for note in show.notes(found))
    (later,), _ = forecast.forecasts(studied.rows((1, 2, 4), every=2), [1])
    assert not any("raise the target" in note for note in show.notes(later))


@pytest.mark.parametrize("scaling", ["strong", "weak"])
def test_node_counts_held_out_are_predicted_within_a_tenth(scaling: str) -> None:
    (found,), refused = forecast.forecasts(studied.rows(scaling=scaling), [1, 4, 16], price=3.0)
    assert not refused
    assert [held.nodes for held in found.held] == [1, 2, 4, 8, 16]
    assert found.error is not None
    assert found.error < 0.1
    assert found.ttra_error is not None
    assert found.ttra_error < 0.1
    for at in found.rows:
        assert at.low < found.measured[at.nodes] < at.high
        assert at.cost == pytest.approx(3 * at.nodes * at.ttra / 3600)


def test_far_predictions_are_less_certain_and_the_knee_is_found() -> None:
    (found,), _ = forecast.forecasts(studied.rows(), [1, 4, 64, 512, 4096])
    widths = [at.high / at.low for at in found.rows]
    assert widths[0] < widths[2] < widths[3]
    assert found.impossible == [4096]
    assert found.knee is not None
    assert 8 <= found.knee <= 64
    assert all(later.efficiency < at.efficiency for at, later in zip(found.rows, found.rows[1:], strict=False))


def test_two_node_counts_suffice_but_nothing_can_be_held_out() -> None:
    rows = [replace(row, seconds={"update": sum(row.seconds.values())}) for row in studied.rows((1, 2))]
    (found,), _ = forecast.forecasts(rows, [4])
    assert found.error is None
    assert not found.held


def test_of_two_node_counts_with_two_batches_each_cell_is_held_out() -> None:
    rows = [*studied.rows((1, 2)), *studied.rows((1, 2), scaling="weak")]
    strong, weak = forecast.forecasts(rows, [4])[0]
    assert [held.nodes for held in (*strong.held, *weak.held)] == [1, 2, 1, 2]
    assert any("error on cells held out" in note for note in show.notes(strong))


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


def test_the_command_writes_a_page_a_picture_and_numbers(tmp_path: Path) -> None:
    table, out = tmp_path / "study" / "results.csv", tmp_path / "out.json"
    write_csv(table, [*studied.rows((1, 2, 4)), *studied.rows((1,), method="pgd7")])
    done = CliRunner().invoke(app, ["predict", str(table), "--nodes", "1..64", "--json", str(out)])
    assert done.exit_code == 0, done.output
    assert "error on node counts held out of the fit" in done.output
    assert "no prediction for d, pgd7, strong" in done.output
    page = (table.parent / "prediction.md").read_text()
    assert "## d, fast, strong scaling" in page
    assert "knee" in page
    assert (table.parent / "figures" / "prediction.svg").read_text().startswith("<?xml")
    (numbers,) = json.loads(out.read_text())["forecasts"]
    assert [row["nodes"] for row in numbers["rows"]] == [1, 2, 4, 8, 16, 32, 64]
