"""``hpcfast report`` where not everything is there that it could show."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from hpcfast.cli import app
from hpcfast.errors import UserError
from hpcfast.report import page
from tests.unit.stories import Story, collapsing, write


def report(*words: object) -> Result:
    return CliRunner().invoke(app, ["report", *map(str, words)])


def test_an_unfinished_run_gets_a_table_and_a_page(tmp_path: Path) -> None:
    run = write(tmp_path / "running", collapsing(), finished=False)
    done = report(run, "--json", tmp_path / "numbers.json")
    assert done.exit_code == 0, done
    assert "unfinished, epoch 2 of 3" in done.output
    assert "no picture: a picture needs a finished run" in done.output
    assert page.MARK in (run / "report.html").read_text()
    assert json.loads((tmp_path / "numbers.json").read_text()) == {
        "runs": [{"status": "unfinished", "epochs": 2.0}],
        "picture": None,
        "page": str(run / "report.html"),
    }


def test_a_finished_run_whose_data_or_weights_are_elsewhere_gets_a_page(tmp_path: Path) -> None:
    run = write(tmp_path / "copied", Story())
    done = report(run)
    assert done.exit_code == 0, done
    assert "no picture: no weights" in done.output
    assert (run / "report.html").is_file()


def test_the_page_of_the_run_is_replaced_and_other_files_are_not(tmp_path: Path) -> None:
    run = write(tmp_path / "run", Story())
    (run / "report.html").write_text("of another version")
    (tmp_path / "thesis.html").write_text("mine")
    assert report(run).exit_code == 0
    assert page.MARK in (run / "report.html").read_text()
    refused = report(run, "--out", tmp_path / "thesis.html")
    assert isinstance(refused.exception, UserError)
    assert (tmp_path / "thesis.html").read_text() == "mine"
    assert report(run, "--out", tmp_path / "thesis.html", "--overwrite").exit_code == 0


@pytest.mark.parametrize("out", ["missing/page.html", "."])
def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path, out: str) -> None:
    refused = report(write(tmp_path / "run", Story()), "--out", tmp_path / out)
    assert isinstance(refused.exception, UserError)
    assert "give --out a file in a folder you may write" in str(refused.exception)
