"""Two studies, or two methods: what their runs can tell and what they cannot."""

import json
from pathlib import Path

import pytest
from scipy.stats import mannwhitneyu
from typer.testing import CliRunner, Result

from hpcfast.cli.scaling import app
from hpcfast.errors import UserError
from hpcfast.scaling import collect
from hpcfast.scaling.cells import cells
from hpcfast.scaling.compare import compare
from hpcfast.scaling.statistics import Difference, difference, holm
from tests.unit.studies import cell, row, study_rows

A = (30.1, 31.7, 29.2, 33.5, 30.9)
B = (14.8, 15.5, 16.9, 14.1, 15.2)


def told(a: tuple[float | None, ...], b: tuple[float | None, ...]) -> Difference:
    found = difference(cells(cell(*a))[0], cells(cell(*b))[0])
    assert isinstance(found, Difference)
    return found


@pytest.mark.parametrize("b", [B, (32.0, 14.0, 30.5, 29.9, 35.0), (31.0, 29.0, 33.0), (*A[:4], 28.0, 27.0, 26.0)])
def test_p_is_that_of_the_exact_rank_test(b: tuple[float, ...]) -> None:
    untied = tuple(value + 1e-3 for value in b)
    assert told(A, untied).p == pytest.approx(mannwhitneyu(A, untied, method="exact").pvalue)


def test_five_against_five_have_at_least_p_008() -> None:
    assert told(A, B).p == pytest.approx(2 / 252)
    assert told(A, A).p == 1
    assert told((10,) * 5, (10,) * 5).p == 1


@pytest.mark.parametrize("b", [B, (20.0, 40.0, 28.0, 31.0), (25.0, 31.0, 28.0, 33.3, 27.0, 35.0, 26.1)])
def test_the_interval_holds_the_ratios_that_the_test_does_not_refuse(b: tuple[float, ...]) -> None:
    found = told(A, b)
    assert found.interval
    for end, inside in zip(found.interval, (1.0001, 0.9999), strict=True):
        for ratio, refused in ((end * inside, False), (end / inside, True)):
            p = mannwhitneyu(A, [value * ratio for value in b], method="exact").pvalue
            assert (p <= 0.05) == refused
    assert found.interval[0] <= found.ratio <= found.interval[1]


def test_a_run_that_did_not_converge_is_infinitely_slow() -> None:
    assert told((None, *A[1:]), B).p == told(A, B).p
    assert told((None,) * 5, B).ratio == float("inf")
    assert told(B, (None,) * 5).ratio == 0
    assert difference(*cells([*cell(None), *cell(None, nodes=2)])) == "no run has converged"


@pytest.mark.parametrize(("n", "words"), [(3, "3 against 3 runs have p >= 0.1"), (1, "1 against 1 runs have p >= 1")])
def test_too_few_runs_tell_nothing(n: int, words: str) -> None:
    found = told(A[:n], B[:n])
    assert found.interval is None
    assert words in found.too_few


def test_holm_keeps_the_order_and_multiplies() -> None:
    assert holm([0.01, 0.04, 0.03, 0.5]) == pytest.approx([0.04, 0.09, 0.09, 0.5])
    assert holm([0.9, 0.8]) == [1, 1]
    assert holm([]) == []


def test_cells_are_matched_and_corrected_together() -> None:
    faster = [each for nodes in (1, 2, 4) for each in cell(*B, nodes=nodes)]
    slower = [each for nodes in (1, 2, 8) for each in cell(*A, nodes=nodes)]
    found = compare(slower, faster)
    assert [each.a.nodes for each in found] == [1, 2]
    assert [each.verdict for each in found] == ["B is faster"] * 2
    assert [each.p_corrected for each in found] == pytest.approx([4 / 252] * 2)
    assert {each.verdict for each in compare(faster, slower)} == {"A is faster"}
    assert {each.verdict for each in compare(slower, slower)} == {"no significant difference"}


def test_what_cannot_be_compared_says_why_and_takes_no_part_in_the_correction() -> None:
    a = [*cell(*A), *cell(*A, nodes=2), *cell(*A, nodes=4)]
    b = [*cell(*B), *cell(*B, nodes=2, target=0.7), *cell(*B[:4], nodes=4), row(4, 4, 15.0, hardware="another")]
    fine, other_target, mixed = compare(a, b)
    assert other_target.verdict == "the targets differ: 0.5, 0.7"
    assert "mixed hardware" in mixed.verdict
    assert fine.p_corrected == pytest.approx(2 / 252)


def test_other_differences_are_named() -> None:
    (found,) = compare(cell(*A), [*cell(*B[:4], hardware="new"), row(4, ttra=None, status="crashed")])
    assert found.notes == ("hardware: A a CPU, 1 thread a rank, B new", "B lacks 1 run")


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["compare", *map(str, words)])


def test_the_command_takes_folders_and_tables(tmp_path: Path) -> None:
    rows = study_rows()
    collect.write_csv(tmp_path / "results.csv", rows)
    collect.write_csv(tmp_path / "b.csv", [*cell(*(each / 10 for each in A)), *cell(None, nodes=2, scaling="weak")])
    done = run(tmp_path, tmp_path / "b.csv", "--json", tmp_path / "numbers.json")
    assert done.exit_code == 0, done
    assert "B is faster" in done.output
    strong, weak = json.loads((tmp_path / "numbers.json").read_text())["cells"]
    assert strong["n"] == [5, 5]
    assert strong["ci95"][0] > 20
    assert weak["ratio"] == 0
    assert "too few" in weak["verdict"]


def test_studies_without_a_common_cell_are_refused(tmp_path: Path) -> None:
    collect.write_csv(tmp_path / "a.csv", cell(*A))
    collect.write_csv(tmp_path / "b.csv", cell(*A, nodes=2))
    refused = run(tmp_path / "a.csv", tmp_path / "b.csv")
    assert isinstance(refused.exception, UserError)
    assert "no cell in common" in str(refused.exception)
    assert isinstance(run(tmp_path / "a.csv", tmp_path / "none").exception, UserError)
