"""Classes on the report page: the worst, the best, and what is taken for what."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from hpcfast.errors import UserError
from hpcfast.report.runs import read
from hpcfast.runs.directory import RunDirectory
from tests.unit.report.test_page import rendered
from tests.unit.stories import SUMMARY, Story, write

BY_CLASS: dict[str, Any] = {
    "balanced_accuracy": {"clean": 0.7, "robust": 0.4},
    "classes": [
        {"name": f"class{i:02}", "images": 4, "clean_accuracy": 0.75, "robust_accuracy": i / 40}
        | {"ci95": {"clean_accuracy": [0.3, 0.95], "robust_accuracy": [0.0, 0.9]}}
        for i in range(20)
    ]
    + [{"name": "no image", "images": 0}],
    "confusion": [{"class": "class00", "taken_for": "class07", "clean": 1, "attacked": 3}],
}


def test_the_worst_and_the_best_classes_and_what_is_confused_are_shown(tmp_path: Path) -> None:
    run = write(tmp_path / "run", Story())
    (run / "summary.json").write_text(json.dumps(SUMMARY | BY_CLASS))
    text = rendered(run).text
    table = text[text.index("run class clean accuracy") : text.index("run class taken for")]
    assert re.findall(r"class\d\d", table) == [*(f"class{i:02}" for i in range(10)), "class17", "class18", "class19"]
    assert "run class00 class07 1 3" in text
    assert "no image" not in text


@pytest.mark.parametrize(
    "damaged",
    [{"classes": [{"name": 1, "images": 2}]}, {"confusion": [{"class": "a"}]}, {"balanced_accuracy": {"clean": "x"}}],
)
def test_damaged_numbers_of_classes_are_named(tmp_path: Path, damaged: dict[str, Any]) -> None:
    run = write(tmp_path / "run", Story())
    (run / "summary.json").write_text(json.dumps(SUMMARY | damaged))
    with pytest.raises(UserError, match=rf"summary\.json is damaged \({next(iter(damaged))}"):
        read([RunDirectory(run)])
