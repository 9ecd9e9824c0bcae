"""The table in the terminal, and numbers in words."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from hpcfast.report import format, tables
from hpcfast.report.runs import read
from hpcfast.runs.directory import RunDirectory
from tests.unit.stories import Story, collapsing, write


def printed(*runs: Path) -> str:
    console = Console(width=200, file=io.StringIO())
    console.print(tables.results(read([RunDirectory(run) for run in runs])).terminal())
    return console.file.getvalue()


def test_the_table_has_a_row_a_run_with_its_numbers(tmp_path: Path) -> None:
    text = printed(write(tmp_path / "one", Story()), write(tmp_path / "other", collapsing(), finished=False))
    row, other = (next(line for line in text.splitlines() if f" {name} " in line) for name in ("one", "other"))
    for part in ("fgsm_rs", "0.750 [0.468, 0.911]", "0.500 [0.254, 0.746]", " 12 ", "1,234", "60.0 s", "1 h 06 min"):
        assert part in row
    assert "unfinished, epoch 2 of 3" in other
    assert "fgsm_rs, then pgd 2 x 1" in other
    assert "robust: under pgd 3 x 2, L2 eps 0.5; in brackets" in text


def test_without_a_finished_run_there_is_a_table_too(tmp_path: Path) -> None:
    text = printed(write(tmp_path / "run", Story(), finished=False))
    assert "unfinished, epoch 0 of 3" in text
    assert "robust: under" not in text


def test_the_time_of_each_run_is_divided(tmp_path: Path) -> None:
    runs = write(tmp_path / "one", Story()), write(tmp_path / "other", Story(), finished=False)
    console = Console(width=200, file=io.StringIO())
    console.print(tables.times(read([RunDirectory(run) for run in runs])).terminal())
    rows = {line.split("│")[1].strip(): line for line in console.file.getvalue().splitlines() if "│" in line}
    assert "20.0 % (24.0 s)" in rows["attack"]
    assert "5.0 % (6.0 s)" in rows["data wait"]
    assert rows["lost"].split("│")[2:4] == [" 50.0 % (60.0 s) ", "     – "]


def test_a_sentence_says_what_share_of_the_time_has_trained(tmp_path: Path) -> None:
    """Three epochs of 20 s, of which the second was undone and half of the third was lost."""
    story = collapsing()
    story.time += 45.0
    story.start(step=15)
    (record,) = read([RunDirectory(write(tmp_path / "run", story))])
    said = "run: 28.6 % of 105.0 s trained the network (ETTR), down 42.9 %, repeated 28.6 %"
    assert tables.effective(record) == said


@pytest.mark.parametrize(
    ("attack", "said"),
    [
        ({"name": "pgd", "steps": 50, "restarts": 10, "norm": "L2", "eps": 2.0}, "pgd 50 x 10, L2 eps 2"),
        ({"name": "fgsm_rs", "norm": "Linf", "eps": 8 / 255}, "fgsm_rs, Linf eps 8/255"),
        ({"name": "fgsm_rs", "norm": "Linf", "eps": 0.2}, "fgsm_rs, Linf eps 0.2"),
        ({"name": "apgd", "steps": 20, "norm": "L2", "eps": 0.123456}, "apgd 20, L2 eps 0.1235"),
        ({"name": "nfgsm"}, "nfgsm"),
    ],
)
def test_an_attack_is_described_by_what_it_has(attack: dict[str, object], said: str) -> None:
    assert format.attack_in_words(attack) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0.0 s"),
        (5.056e-05, "50.6 µs"),
        (0.04, "40 ms"),
        (119.9, "119.9 s"),
        (120, "2 min 00 s"),
        (3599.6, "1 h 00 min"),
        (90061, "25 h 01 min"),
        (4_000_000, "1,111 h"),
    ],
)
def test_durations_have_the_units_of_people(seconds: float, said: str) -> None:
    assert format.duration(seconds) == said


@pytest.mark.parametrize(
    ("attack", "said"),
    [
        (
            {"name": "apgd", "steps": 100, "targets": 9, "norm": "Linf", "eps": 8 / 255},
            "apgd, 100 steps, 9 targets, Linf eps 8/255",
        ),
        (
            {"name": "pgd", "steps": 1, "alpha": None, "restarts": 10, "norm": "L2", "eps": 0.5},
            "pgd, 1 step, 10 restarts, L2 eps 0.5",
        ),
        ({"name": "pgd", "steps": 2, "alpha": 0.01, "norm": "L2", "eps": 1.0}, "pgd, 2 steps, alpha 0.01, L2 eps 1"),
        ({"name": "autoattack", "version": "rand", "norm": "L1", "eps": 12.0}, "autoattack, version rand, L1 eps 12"),
        ({"name": "square", "queries": 5000, "norm": "L2", "eps": 1.0}, "square, 5,000 queries, L2 eps 1"),
    ],
)
def test_an_attack_is_spelled_out(attack: dict[str, object], said: str) -> None:
    assert format.attack_spelled_out(attack) == said


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (format.short_time(5.056e-05), "50.6 µs"),
        (format.short_time(0.99999), "1 s"),
        (format.short_time(3e-10), "less than 1 ns"),
        (format.short_time(90061), "25 h 01 min"),
        (format.bandwidth(1.25e9), "1.25 GB/s"),
        (format.bandwidth(11.7e6), "11.7 MB/s"),
        (format.bandwidth(5), "5 B/s"),
        (format.count(1, "node"), "1 node"),
        (format.count(1024, "node"), "1,024 nodes"),
    ],
)
def test_quantities_have_units_and_plurals(said: str, expected: str) -> None:
    assert said == expected
