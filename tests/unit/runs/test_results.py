"""A summary or a result that was damaged by hand is one message with the file, the place and the cure."""

import json
from pathlib import Path
from typing import Any

import pytest

from hpcfast.errors import UserError
from hpcfast.evaluation import cache
from hpcfast.runs.directory import RunDirectory
from tests.unit.stories import EVALUATION, SUMMARY

KEPT = EVALUATION | {"ids": [0, 1], "bad_images": {}}
WHOLE: list[tuple[Any, str]] = [
    ([], "all of it"), ("x", "all of it"), (7, "all of it"), (None, "all of it"), ({}, "clean_accuracy"),
]  # fmt: skip
PARTS: list[tuple[dict[str, Any], str]] = [
    ({"clean_accuracy": "0.5"}, "clean_accuracy"),
    ({"robust_accuracy": float("nan")}, "robust_accuracy"),
    ({"n_eval": None}, "n_eval"),
    ({"ci95": {"clean_accuracy": [0.1, 0.2]}}, "ci95.robust_accuracy"),
    ({"ci95": [0.1, 0.2]}, "ci95"),
    ({"ci95": {"clean_accuracy": [0.1], "robust_accuracy": [0.1, 0.2]}}, "ci95.clean_accuracy"),
    ({"attack": "pgd"}, "attack"),
    ({"attack": {"name": "pgd", "eps": 0.5}}, "attack.norm"),
    ({"attack": {"name": "pgd", "norm": "L2", "eps": "8/255"}}, "attack.eps"),
]

SUMMARIES = [
    (SUMMARY | {"seconds": 3.0}, "seconds"),
    (SUMMARY | {"versions": {"torch": "2"}}, "versions.hpcfast"),
]


@pytest.mark.parametrize(
    ("content", "place"),
    [*WHOLE, *((SUMMARY | changed, place) for changed, place in PARTS), *SUMMARIES],
)
def test_a_damaged_summary_is_refused(content: Any, place: str, tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.summary.write_text(json.dumps(content))
    with pytest.raises(UserError) as caught:
        run.read_summary()
    assert str(caught.value).startswith(f"{run.summary} is damaged ({place}: ")
    assert str(caught.value).endswith("; remove it, and give 'hpcfast train' again, which writes it anew")


@pytest.mark.parametrize(
    ("content", "place"),
    [
        *WHOLE,
        *((KEPT | changed, place) for changed, place in PARTS),
        (EVALUATION, "ids"),
        (KEPT | {"curve": None}, "curve"),
    ],
)
def test_a_damaged_result_is_not_shown_again(content: Any, place: str, tmp_path: Path) -> None:
    (tmp_path / cache.RESULT).write_text(json.dumps(content))
    with pytest.raises(UserError) as caught:
        cache._begin(tmp_path, keep_images=False, overwrite=False)
    assert f"result.json is damaged ({place}: " in str(caught.value)
    assert str(caught.value).endswith("; remove it, and the same command measures again")


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000])
def test_what_is_no_json_is_refused(text: str, tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.summary.write_text(text)
    with pytest.raises(UserError, match=r"summary\.json is damaged \("):
        run.read_summary()


def test_what_nobody_reads_may_be_anything(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    content = SUMMARY | {"mine": [1], "attack": SUMMARY["attack"] | {"mine": {}}}
    run.summary.write_text(json.dumps(content))
    assert run.read_summary() == content
