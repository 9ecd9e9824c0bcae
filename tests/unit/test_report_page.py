"""The HTML page: what is on it, whatever is missing, and which files it may replace."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from hpcfast.errors import UserError
from hpcfast.report import charts, page, rows
from hpcfast.report.charts import Chart, Line, Sample
from hpcfast.report.runs import read
from hpcfast.runs.directory import RunDirectory
from tests.unit.stories import EVALUATION, EXPLANATION, RESULT, Story, collapsing, evaluate, write


class Parser(HTMLParser):
    """Checks that elements are closed, and collects all text."""

    EMPTY = frozenset({"meta", "link", "img", "br"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def rendered(*runs: Path) -> Parser:
    return Parser(page.render(read([RunDirectory(run) for run in runs])))


def test_everything_about_a_finished_run_is_on_the_page(tmp_path: Path) -> None:
    run = write(tmp_path / "complete", collapsing(), explain=EXPLANATION)
    evaluate(run, "strong", EVALUATION)
    (run / "figures").mkdir()
    Image.new("L", (4, 4)).save(run / "figures" / "adversarial.png")
    parsed = rendered(run)
    for part in (
        "75.0 % 46.8 % to 91.1 %", "pgd 3 x 2, L2 eps 0.5", "pgd 3 x 2, 12 images", "fgsm_rs, then pgd 2 x 1",
        "60.0 s, 1,234 images/s", "1 h 06 min",
        "Warning strong: robust accuracy may be too high", "a black box breaks more", "masked?",
        "What the guard saw", "Gradient alignment", "Training loss", "Training speed", "Robust accuracy, monitor",
        "Robust accuracy against eps, L2", "what each attack broke", "square", "class mean 0.250 [0.125, 0.375] 500",
        "adversarial.png of complete", "threat.eps", "torch 2.14.1", "2027-01-15 08:00:00 UTC",
        "Undone by rollbacks: 1",
    ):  # fmt: skip
        assert part in parsed.text, part
    assert parsed.tags.count("img") == 1


def test_nothing_is_loaded_from_elsewhere(tmp_path: Path) -> None:
    html = page.render(read([RunDirectory(write(tmp_path / "alone", collapsing()))]))
    assert not re.findall(r"(?:src|href)=\"(?!#|data:)", html)
    assert not re.findall(r"url\(|@import|https?://", html)


def test_an_unfinished_run_is_reported_as_far_as_it_is(tmp_path: Path) -> None:
    parsed = rendered(write(tmp_path / "running", collapsing(), finished=False))
    assert "unfinished: epoch 2 of 3; last event 2027-01-15 08:01:00 UTC." in parsed.text
    assert "60.0 % last seen by the monitor" in parsed.text
    assert "None yet." in parsed.text
    assert "world size 1" in parsed.text


def test_a_run_that_has_just_been_claimed_has_a_page(tmp_path: Path) -> None:
    story = Story()
    story.events.clear()
    text = rendered(write(tmp_path / "new", story, finished=False)).text
    assert "unfinished: epoch 0 of 3." in text
    assert "Nothing is recorded." in text


@pytest.mark.parametrize("name", ["<script>alert(1)<", '"onload="x', "a&b", "{{ 7 * 7 }}"])
def test_names_are_text_and_nothing_else(tmp_path: Path, name: str) -> None:
    run = write(tmp_path / name, collapsing())
    evaluate(run, name, EVALUATION)
    plain = rendered(write(tmp_path / "plain", collapsing()), run)
    assert f"{name}, {name}: what each attack broke" in plain.text
    assert plain.tags.count("script") == 1


@pytest.mark.parametrize("missing", ["seconds", "curve", "stages", "masking", "versions"])
def test_an_evaluation_may_lack_what_older_versions_did_not_write(tmp_path: Path, missing: str) -> None:
    run = write(tmp_path / "old", Story())
    evaluate(run, "partial", {key: value for key, value in EVALUATION.items() if key != missing})
    evaluate(run, "least", RESULT)
    evaluate(run, "unmasked", EVALUATION | {"masking": None, "curve": None, "stages": None})
    assert {"partial", "least", "unmasked"} <= set(rendered(run).text.split())


@pytest.mark.parametrize("content", ["", "[]", "{}", "7", "null"])
def test_a_damaged_result_is_named_and_left_out(tmp_path: Path, content: str) -> None:
    run = write(tmp_path / "damaged", Story())
    evaluate(run, "bad", {})
    (run / "evaluations" / "bad" / "result.json").write_text(content)
    (run / "explain.json").write_text(content)
    text = rendered(run).text
    assert f"{run}/evaluations/bad/result.json is damaged and left out" in text
    assert f"{run}/explain.json is damaged and left out" in text


def test_a_damaged_summary_and_a_folder_that_is_no_run_are_refused(tmp_path: Path) -> None:
    run = write(tmp_path / "damaged", Story())
    (run / "summary.json").write_text("{")
    with pytest.raises(UserError, match=r"summary\.json is damaged"):
        read([RunDirectory(run)])
    with pytest.raises(UserError, match="is no run directory"):
        read([RunDirectory(tmp_path)])


def test_settings_that_differ_are_marked_and_others_are_not(tmp_path: Path) -> None:
    one, other = write(tmp_path / "one", Story()), write(tmp_path / "other", Story())
    text = (other / "config.yaml").read_text()
    (other / "config.yaml").write_text(text.replace("seed: 0", "seed: 1").replace("name: story", "name: other"))
    records = read([RunDirectory(one), RunDirectory(other)])
    assert [row for row in rows.settings(records) if row[2]] == [("seed", ["0", "1"], True)]
    assert "<mark>1</mark>" in page.render(records)
    assert "The runs have equal settings." in rendered(one, one).text


def test_runs_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    runs = [RunDirectory(write(tmp_path / parent / "seed0", Story())) for parent in ("a", "b")]
    assert [record.name for record in read(runs)] == [str(run.path) for run in runs]


def test_only_a_report_is_replaced_unless_told_otherwise(tmp_path: Path) -> None:
    records = read([RunDirectory(write(tmp_path / "run", Story()))])
    target = tmp_path / "page.html"
    for _ in range(2):
        page.write(records, target)
    assert page.MARK in target.read_text()
    target.write_text("my thesis")
    with pytest.raises(UserError, match="is not a report of hpcfast; give another --out"):
        page.write(records, target)
    assert target.read_text() == "my thesis"
    page.write(records, target, overwrite=True)
    assert page.MARK in target.read_text()


@pytest.mark.parametrize("target", [".", "no/folder/page.html"])
def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, target: str) -> None:
    records = read([RunDirectory(write(tmp_path / "run", Story()))])
    with pytest.raises(UserError, match="cannot be written"):
        page.write(records, tmp_path / target)


def test_a_long_curve_keeps_its_extremes_and_its_end() -> None:
    samples = [Sample(i, 1e-3 * i, "") for i in range(10_000)]
    samples[5_000] = Sample(5_000, 99.0, "")
    samples[5_003] = Sample(5_003, -99.0, "")
    thin = charts.thinned(samples)
    assert len(thin) <= charts.MOST_POINTS
    assert {samples[5_000], samples[5_003], samples[-1]} <= set(thin)
    assert thin == sorted(thin, key=lambda sample: sample.x)


@pytest.mark.parametrize("values", [[0.0], [0.7], [-2.0, -2.0], [1e-9, 2e-9], [0.0, 1e6]])
def test_any_values_fit_into_the_plot(values: list[float]) -> None:
    line = Line(0, "run", [Sample(i, value, "") for i, value in enumerate(values)])
    chart = Chart("title", "x", "y", [line])
    for x, y in re.findall(r"(-?[\d.]+),(-?[\d.]+)", chart.draw(line).path):
        assert charts.LEFT <= float(x) <= charts.RIGHT
        assert charts.TOP <= float(y) <= charts.BOTTOM
    labels = [label for _, label in chart.y_ticks]
    assert 2 <= len(set(labels)) == len(labels) <= 8
