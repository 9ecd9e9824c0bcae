"""What people called runs, classes and files is data on a page, in a picture, in Markdown and in tables."""

import csv
import html.parser
import io
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from hpcfast.report import page
from hpcfast.report.format import Table
from hpcfast.report.runs import read
from hpcfast.runs.directory import RunDirectory
from hpcfast.runs.names import in_lines, printable
from hpcfast.scaling import collect
from hpcfast.scaling import report as study_report
from hpcfast.scaling.cells import cells
from hpcfast.scaling.figures import pictures
from hpcfast.scaling.study import Study
from tests.unit.hostile import STRINGS
from tests.unit.stories import EVALUATION, collapsing, evaluate, write
from tests.unit.studies import study_rows

FILES = [text for text in STRINGS if text.strip() and "/" not in text and text != ".." and len(text) < 256]
OWN_SCRIPT = 'addEventListener("beforeprint"'


class Elements(html.parser.HTMLParser):
    """All elements of a page, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.scripts, self.attributes, self.words = list[str](), list[tuple[str, str]](), list[str]()
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts += [data] if data.strip() else []
        self._inside = "" if self._inside == "script" else self._inside
        self.words.append(data)

    @property
    def acting(self) -> list[str]:
        """Scripts that are not ours, and attributes that run or fetch something."""
        odd = [data for data in self.scripts if not data.startswith(OWN_SCRIPT)]
        odd += [name for name, _ in self.attributes if name.startswith("on")]
        fetching = [value for name, value in self.attributes if name in ("src", "href", "xlink:href", "action")]
        return odd + [value for value in fetching if not value.startswith(("data:", "#"))]


def test_runs_may_have_any_names(tmp_path: Path) -> None:
    runs = [write(tmp_path / name, collapsing()) for name in FILES]
    for name, run in zip(FILES, runs, strict=True):
        evaluate(run, name, EVALUATION | {"masking": {"suspicious": True, "signs": [name]}})
    shown = page.render(read([RunDirectory(run) for run in runs]))
    elements = Elements(shown)
    assert elements.acting == []
    text = "".join(elements.words)
    assert [name for name in FILES if name.strip() not in text and "\r" not in name] == []


def study(title: str) -> Study:
    method = {"name": "fast", "config": __file__}
    data = [{"name": "digits", "target": 0.5, "global_batch": 64, "rank_batch": 64, "methods": [method]}]
    return Study.model_validate({"name": "s", "title": title, "strong": [1], "data": data})


def test_a_study_may_have_met_any_string(tmp_path: Path) -> None:
    first, *rest = study_rows()
    for text in STRINGS:
        crashed = replace(first, status="crashed", note=text, ttra=None, hardware=text, stragglers=(text,))
        rows = [crashed, *rest]
        title = printable(text) or "it"
        found = study_report.contents(study(title), rows, {"digits": []})
        assert Elements(study_report.in_html(found)).acting == [], text
        written = study_report.in_markdown(found)
        assert not re.search(r"(?<!\\)(<(script|img)|\]\(javascript)", written), text
        collect.write_csv(tmp_path / "table.csv", rows)
        with (tmp_path / "table.csv").open(newline="") as file:
            back = next(csv.DictReader(file))
        assert (back["note"], back["hardware"], back["stragglers"]) == (text, text, text)


def test_pictures_are_sound_xml() -> None:
    first, *_ = study_rows(seeds=1)
    rows = [replace(first, method=text or "it") for text in STRINGS]
    for picture in pictures("digits", cells(rows)):
        tree = ET.fromstring(picture.svg)
        assert not [each for each in tree.iter() if each.tag.endswith(("script", "image", "foreignObject"))]
        assert not [name for each in tree.iter() for name in each.attrib if name.startswith("on")]
        assert Elements(picture.inline).acting == []


@pytest.mark.parametrize("text", STRINGS)
def test_a_cell_of_markdown_stays_one(text: str) -> None:
    lines = Table("t", ("a", "b"), [(text, "2")], "lr").markdown().split("\n")
    assert len(lines) == 3
    assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", lines[2])) == 3
    assert not re.search(r"(?<!\\)(?:\\\\)*[<`]", lines[2])


@pytest.mark.parametrize("text", STRINGS)
def test_a_terminal_is_not_steered(text: str) -> None:
    shown = io.StringIO(in_lines(f"error: {text}")).getvalue()
    assert all(char.isprintable() or char == "\n" for char in shown)
