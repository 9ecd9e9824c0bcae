"""What is on the face of a study's report, and which files it may replace."""

import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from hpcfast.cli.scaling import app
from hpcfast.errors import UserError
from hpcfast.scaling import collect, report
from hpcfast.scaling.cells import cells, gain
from hpcfast.scaling.collect import Row
from hpcfast.scaling.figures import pictures
from hpcfast.scaling.statistics import Difference
from tests.unit.report.test_page import Parser
from tests.unit.studies import cell, row, study_rows

SHORT = [*cell(30.0, 31.0, 29.5, 30.5, 29.0), *cell(90.0, 91.0, 89.5, 90.5, 89.0, method="pgd7")]
ONE = [replace(SHORT[0], seconds={}, epochs=None, images_per_second=None)]
"""Has few figures."""


def asked(folder: Path, **changed: Any) -> Any:
    return SimpleNamespace(name="s", title="A <title>", price_per_node_hour=2.0, folder=folder, **changed)


def rendered(rows: list[Row], form: str = "html") -> str:
    """Without pictures: they take time."""
    found = report.contents(asked(Path("unused")), rows, {"digits": []})
    return Parser(report.in_html(found)).text if form == "html" else report.in_markdown(found)


def test_a_person_finds_question_answer_and_numbers() -> None:
    text = rendered(SHORT)
    for part in (
        "A <title>",
        "How long does it take to 50.0 % robust accuracy on digits, and on how many nodes?",
        "The target was reached fastest on 1 node (strong scaling), with fast: 30.0 s.",
        "fast gets there 3.00 [",
        "30.0 s 2.6 % 1.00 100.0 % 4 7.5 s",  # time, variation, speed-up, efficiency, epochs, time an epoch
        "30.0 s 0.02 3 of 5",  # node time, cost; joules nobody measured
        "digits-fast-strong-1-seed4 converged dropped 29.0 s", "pgd 50 x 10 51.0 %, apgd 50.5 %",
        "a CPU, 1 thread a rank 10 hpcfast 0.1.0", "attack", "communication",
    ):  # fmt: skip
        assert part in text, part
    assert "warning" not in text.lower()


@pytest.mark.parametrize("form", ["html", "markdown"])
@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"status": "missing"}, "1 of 10 runs missing, not averaged: digits-fast-strong-1-seed0"),
        ({"status": "crashed", "note": "oom"}, "1 of 10 runs crashed, not averaged: digits-fast-strong-1-seed0 (o"),
        ({"status": "unfinished"}, "1 of 10 runs unfinished, not averaged"),
        ({"status": "not converged", "note": "apgd"}, "1 of 10 runs not converged: digits-fast-strong-1-seed0 (apgd"),
        ({"hardware": "another"}, "digits, fast, strong, 1 node: not averaged: mixed hardware"),
        ({"versions": "another"}, "Mixed versions: another; hpcfast 0.1.0."),
        ({"ranks": 4, "slots": 2}, "Ranks share cores or GPUs (digits, fast, strong, 1 node: 4 ranks, room for 2)."),
        ({"slots": 0}, "Ranks share cores or GPUs (digits, fast, strong, 1 node: 1 rank, room for 0)."),
        ({"stragglers": ("rank 3 on n2: 1.4 times the median step",)}, "seed0: slow ranks: rank 3 on n2: 1.4 times"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_on_its_face(form: str, changed: dict[str, Any], words: str) -> None:
    if "status" in changed:
        changed = {"ttra": None, **changed}
    assert words in rendered([replace(SHORT[0], **changed), *SHORT[1:]], form)


def test_joules_have_a_column_where_somebody_measured_them() -> None:
    assert "Joules" not in rendered(SHORT)
    assert "0.02 120 3 of 5" in rendered([replace(each, joules=120.0) for each in SHORT])


def test_few_seeds_are_on_its_face() -> None:
    two = cell(30.0, 31.0, 29.0, nodes=2)
    assert "1 of 3 cells has fewer than 5 runs that ended" in rendered([*SHORT, *two])
    alone, both = cells(two), cells([*two, replace(two[0], job="other", method="other")])
    assert "Methods cannot be compared" in report.answer(both)
    assert "compared" not in report.answer(alone)


def test_chance_is_called_chance_and_no_answer_is_none() -> None:
    other = cell(30.2, 31.2, 29.7, 30.7, 29.2, method="other")
    assert "which may be chance" in report.answer(cells([*SHORT[:5], *other]))
    nothing = cell(None, None)
    assert "No answer yet" in rendered(nothing)
    assert "2 of 2 did not converge" in rendered(nothing)


def test_hardly_sooner_and_infinitely_late_are_said_so() -> None:
    two = [row(seed, 2, ttra=ttra) for seed, ttra in enumerate((28.5, 29.5, 30.5, 30.0, 29.0))]
    assert "hardly sooner than on 1 node" in report.answer(cells([*SHORT[:5], *two]))
    never = Difference(*cells([*SHORT[:5], *two]), 2.5, (0.0, math.inf))
    assert never.ratio_in_words == "2.50 [0.00, ∞]"


@pytest.mark.parametrize("shared", [1, 2, 4])
def test_ranks_that_share_cores_have_no_speed_up_and_it_is_said_once_why(shared: int) -> None:
    """Nor has any cell against them."""
    rows = [replace(each, slots=each.ranks - (each.nodes == shared)) for each in study_rows()]
    every = cells(rows)
    known = [not math.isnan(gain(cell, every)[0]) for cell in every if cell.kind[1:3] == ("fast", "weak")]
    assert known == ([False] * 3 if shared == 1 else [nodes != shared for nodes in (1, 2, 4)])
    assert sum("share cores" in warning for warning in report.warnings(every)) == 1
    assert ("times sooner than" in report.answer(every)) == (shared == 2)


def test_names_and_notes_cannot_break_the_page_or_the_table() -> None:
    strange = replace(SHORT[0], ttra=None, status="crashed", note="<script>|\nx", job="<b>|")
    html = rendered([strange])  # the parser checks that elements are closed
    assert "<script>|" in html
    line = next(line for line in rendered([strange], "markdown").splitlines() if line.startswith("| \\<b>"))
    assert len(re.findall(r"(?<!\\)\|", line)) == 9


def test_files_are_written_and_strangers_kept(tmp_path: Path) -> None:
    study = asked(tmp_path / "studies" / "s")
    written = report.write(study, ONE)
    names = {path.relative_to(study.folder).as_posix() for path in written}
    assert names == {"report.html", "report.md", "results.csv"}
    drawn = sorted(path.name for path in (study.folder / "figures").iterdir())
    assert drawn == ["digits-efficiency.svg", "digits-ttra.svg"]
    assert not list(study.folder.rglob("*.part"))
    html = written[0].read_text()
    assert not re.findall(r"(?:src|href|srcset)=\"(?!#|data:)|url\((?!#)|@import", html)
    report.write(study, ONE)
    written[0].write_text("mine")
    with pytest.raises(UserError, match="no report on a study of ours"):
        report.write(study, ONE)
    assert written[0].read_text() == "mine"


@pytest.mark.parametrize("blocked", ["file", "file/below"])
def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path, blocked: str) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="give --out a folder you may write"):
        report.write(asked(tmp_path), [], tmp_path / blocked)


def test_every_figure_has_words() -> None:
    rows = study_rows(seeds=2)
    failed = [replace(rows[0], ttra=None, status="not converged"), *rows[1:]]
    drawn = {picture.name: picture for picture in pictures("digits", cells(failed))}
    assert list(drawn) == [f"digits-{name}" for name in ("ttra", "efficiency", "epochs", "epoch-seconds")]
    assert re.search("digits, pgd7, weak, 4 nodes: [0-9.]+ s$", drawn["digits-ttra"].alt)
    assert "fast, strong, 1 node" not in drawn["digits-ttra"].alt, "it has no result"
    assert all(picture.svg.startswith("<?xml") for picture in drawn.values())


def command(*words: object) -> Result:
    return CliRunner().invoke(app, ["report", *map(str, words)])


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[list[Row]], Path]:
    """A study whose runs are these rows."""
    path = tmp_path / "small.yaml"
    root = Path(__file__).parents[3]
    path.write_text((root / "configs/studies/tiny.yaml").read_text())
    monkeypatch.chdir(root)
    return lambda rows: monkeypatch.setattr(collect, "rows", lambda study: rows) or path


def test_the_command_says_what_came_out(study: Callable[[list[Row]], Path], tmp_path: Path) -> None:
    done = command(
        study([replace(ONE[0], ttra=None, status="not converged"), row(1, ttra=None, status="missing")]),
        "--out",
        tmp_path / "out",
    )
    assert done.exit_code == 0, done
    assert "digits: No answer yet" in done.output
    assert "warning: 1 of 2 runs missing" in done.output
    assert f"page: {tmp_path / 'out' / 'report.html'}" in done.output.replace("\n", "")


def test_a_study_that_has_not_begun_has_no_report(study: Callable[[list[Row]], Path], tmp_path: Path) -> None:
    refused = command(study([row(0, ttra=None, status="missing")]), "--out", tmp_path / "out")
    assert isinstance(refused.exception, UserError)
    assert "start it with 'hpcfast scaling run" in str(refused.exception)
    assert not (tmp_path / "out").exists()


def test_a_page_on_120_runs_stays_small(tmp_path: Path) -> None:
    rows = study_rows(data=("digits", "fashion"))
    assert len(rows) == 120
    assert report.write(asked(tmp_path), rows)[0].stat().st_size < 300_000
