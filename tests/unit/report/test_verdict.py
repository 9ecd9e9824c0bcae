"""What a run has reached: under the strongest attack on file, in a sentence, with the attacks explained."""

import json
from pathlib import Path
from typing import Any

import pytest

from hpcfast.component import components
from hpcfast.evaluation.interval import interval
from hpcfast.report import page, tables, verdict
from hpcfast.report.runs import Record, read
from hpcfast.runs.directory import RunDirectory
from tests.unit.stories import SUMMARY, Story, collapsing, evaluate, write

APGD = {"name": "apgd", "steps": 30, "targets": 9, "norm": "L2", "eps": 0.5}


def measured(held: int, n: int, attack: dict[str, Any], right: int | None = None, **more: Any) -> dict[str, Any]:
    """A result: of ``n`` images ``held`` withstand ``attack``."""
    counts = {"clean_accuracy": n - 9 if right is None else right, "robust_accuracy": held}
    fractions = {key: value / n for key, value in counts.items()}
    return {**fractions, "n_eval": n, "attack": attack, "ci95": {k: interval(v, n) for k, v in counts.items()}, **more}


def record(folder: Path, *kept: dict[str, Any], summary: dict[str, Any] | None = None) -> Record:
    """A finished run whose last evaluation, PGD, left 40 of 100 images, and what ``hpcfast eval`` has kept."""
    run = write(folder / "run", Story())
    own = SUMMARY | measured(40, 100, SUMMARY["attack"]) | (summary or {})
    (run / "summary.json").write_text(json.dumps(own))
    for number, result in enumerate(kept):
        evaluate(run, f"{number}", result)
    (found,) = read([RunDirectory(run)])
    return found


def test_of_equally_many_images_the_lowest_accuracy_is_the_headline(tmp_path: Path) -> None:
    found = record(tmp_path, measured(45, 100, APGD | {"steps": 5}), measured(26, 100, APGD))
    said = "Of 100 test images the network classifies 91 rightly, and 26 still after the strongest attack on file "
    assert verdict.sentence(found) == f"{said}(apgd, 30 steps, 9 targets, L2 eps 0.5)."
    (row,) = tables.results([found]).rows
    assert row[3:5] == ("0.260 [0.184, 0.354]", "100")
    assert tables.results([found]).caption.startswith("robust: under apgd 30, L2 eps 0.5; ")
    shown = page.render([found])
    assert shown.index(said) < shown.index("<h2")


@pytest.mark.parametrize(
    ("held", "n", "wins"),
    [
        (3, 10, False),  # 0.30 of ten images may be 0.60
        (35, 100, True),
        (18, 50, False),  # 0.36, but up to 0.50
        (12, 50, True),  # 0.24, up to 0.37
        (390, 1000, True),  # 0.39, up to 0.42
        (420, 1000, True),  # 0.42 of so many bounds it better than 0.40 of a hundred
        (500, 1000, False),
    ],
)
def test_of_other_numbers_of_images_the_interval_that_ends_lowest_counts(
    tmp_path: Path, held: int, n: int, wins: bool
) -> None:
    best = verdict.strongest(record(tmp_path, measured(held, n, APGD)))
    assert best
    assert (best["attack"]["name"] == "apgd") == wins


@pytest.mark.parametrize(
    ("attack", "about"),
    [
        (APGD | {"eps": 1.0}, None),
        (APGD | {"norm": "Linf"}, None),
        (APGD, {"images": "of another data set"}),
    ],
)
def test_another_threat_model_or_other_images_are_no_headline(
    tmp_path: Path, attack: dict[str, Any], about: dict[str, Any] | None
) -> None:
    own = {"data": {"images": {}, "digests": {"train": "t", "val": "v"}}}
    best = verdict.strongest(record(tmp_path, measured(1, 100, attack, about=about), summary=own))
    assert best
    assert best["attack"]["name"] == "pgd"


def test_attacks_that_differ_have_a_column(tmp_path: Path) -> None:
    one, other = record(tmp_path / "a", measured(26, 100, APGD)), record(tmp_path / "b")
    table = tables.results([one, other])
    assert table.headings[5] == "under"
    assert [row[5] for row in table.rows] == ["apgd 30", "pgd 3 x 2"]
    assert table.caption.startswith("robust: under the strongest attack on file, L2 eps 0.5; ")


def test_sentences_of_runs_without_an_attack(tmp_path: Path) -> None:
    (running,) = read([RunDirectory(write(tmp_path / "running", collapsing(), finished=False))])
    assert verdict.sentence(running) == "Unfinished, epoch 2 of 3: no evaluation is on file yet."
    unhurt = measured(91, 100, {"name": "standard", "norm": "L2", "eps": 0.5})
    said = verdict.sentence(record(tmp_path, summary=unhurt))
    assert said == "Of 100 test images the network classifies 91 rightly; no attack is on file."
    lost = verdict.sentence(record(tmp_path / "lost", summary=measured(0, 1000, APGD)))
    assert "Of 1,000 test images the network classifies 991 rightly, and none still after" in lost


def test_every_attack_and_norm_on_the_page_is_explained(tmp_path: Path) -> None:
    strange = measured(50, 100, {"name": "of_my_own", "norm": "Linf", "eps": 0.1})
    (found,) = read([RunDirectory(write(tmp_path / "run", collapsing()))])
    found.evaluations["mine"] = strange
    assert list(verdict.explained([found])) == ["fgsm_rs", "pgd", "L2", "Linf"]
    shown = page.render([found])
    for word, meaning in verdict.explained([found]).items():
        assert f"<dt>{word}</dt><dd>" in shown
        assert meaning.endswith((".", ")."))


def test_every_attack_of_ours_has_a_sentence() -> None:
    silent = [name for name, attack in components("hpcfast.attacks").items() if not getattr(attack, "plainly", "")]
    assert not silent
