"""The HTML page: what is on it, whatever is missing, and which files it may replace."""

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hpcfast.errors import UserError
from hpcfast.report import charts, html, page, pictures, tables
from hpcfast.report.runs import read
from hpcfast.runs import plot
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
        "0.750 [0.468, 0.911] 0.500 [0.254, 0.746] 12 1,234 60.0 s 1 h 06 min", "pgd 3 x 2, L2 eps 0.5",
        "fgsm_rs, then pgd 2 x 1", "Warning complete: strong: robust accuracy may be too high",
        "a black box breaks more",
        "What the guard saw", "Gradient alignment", "Training loss", "Accuracy, monitor",
        "Robust accuracy against eps, L2", "strong: 50.0% (eps 0.25)", "image 0.250 [0.125, 0.375]",
        "adversarial.png of complete", "threat.eps", "torch 2.14.1", "2027-01-15 08:00:00 UTC",
        "complete: 66.7 % of 60.0 s trained the network (ETTR), repeated 33.3 %",
        "complete, train loss: 1.5 (epoch 1.5, step 15)", "complete, train loss, undone: 1 (epoch 1.5, step 15)",
    ):  # fmt: skip
        assert part in parsed.text, part
    assert parsed.tags.count("img") == 1


def test_nothing_is_loaded_from_elsewhere(tmp_path: Path) -> None:
    html = page.render(read([RunDirectory(write(tmp_path / "alone", collapsing()))]))
    assert not re.findall(r"(?:src|href)=\"(?!#|data:)", html)
    assert not re.findall(r"url\((?!#)|@import|https?://", html)


def test_an_unfinished_run_is_reported_as_far_as_it_is(tmp_path: Path) -> None:
    parsed = rendered(write(tmp_path / "running", collapsing(), finished=False))
    assert "unfinished, epoch 2 of 3" in parsed.text
    assert "running, robust accuracy: 60.0% (epoch 2, step 20)" in parsed.text
    assert "Evaluations" not in parsed.text
    assert "world size 1" in parsed.text


def test_a_run_that_has_just_been_claimed_has_a_page(tmp_path: Path) -> None:
    story = Story()
    story.events.clear()
    text = rendered(write(tmp_path / "new", story, finished=False)).text
    assert "unfinished, epoch 0 of 3" in text
    assert "Timeline" not in text


@pytest.mark.parametrize("name", ["<script>alert(1)<", '"onload="x', "a&b", "{{ 7 * 7 }}"])
def test_names_are_text_and_nothing_else(tmp_path: Path, name: str) -> None:
    run = write(tmp_path / name, collapsing())
    evaluate(run, name, EVALUATION)
    plain = rendered(write(tmp_path / "plain", collapsing()), run)
    assert f"{name}, train loss: 1.5" in plain.text
    assert f"{name} {name} pgd 3 x 2" in plain.text
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


def test_settings_that_differ_have_a_table(tmp_path: Path) -> None:
    one, other = write(tmp_path / "one", Story()), write(tmp_path / "other", Story())
    text = (other / "config.yaml").read_text()
    (other / "config.yaml").write_text(text.replace("seed: 0", "seed: 1").replace("name: story", "name: other"))
    records = read([RunDirectory(one), RunDirectory(other)])
    differ, every = tables.settings(records)
    assert differ.rows == [("seed", "0", "1")]
    assert set(differ.rows) < set(every.rows)
    assert "Settings that differ" not in rendered(one, one).text


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


def test_a_long_curve_is_thinned_to_its_end(tmp_path: Path) -> None:
    story = Story()
    for _ in range(500):
        story.train(loss=2.0)
    (chart,) = charts.over_epochs(read([RunDirectory(write(tmp_path / "long", story))]))
    marks = re.findall(r"<title>long, train loss: 2 \(epoch ([\d.]+),", chart.svg)
    assert 20 < len(marks) <= charts.MARKED
    assert marks[-1] == "500"
    assert len(chart.svg) < 30_000


@pytest.mark.parametrize("values", [[0.0], [0.7], [-2.0, -2.0], [1e-9, 2e-9], [0.0, 1e6]])
def test_any_values_are_drawn(tmp_path: Path, values: list[float]) -> None:
    story = Story()
    for value in values:
        story.train(loss=value)
    (chart,) = charts.over_epochs(read([RunDirectory(write(tmp_path / "run", story))]))
    marks = [(float(x), float(y)) for x, y in re.findall(r'"#C0_0_\w+" x="([\d.]+)" y="([\d.]+)"', chart.svg)]
    assert len(marks) == 2 * len(values)
    assert all(0 < x < 303 and 0 < y < 195 for x, y in marks)


def test_the_colours_of_a_chart_are_the_page_s(tmp_path: Path) -> None:
    run = write(tmp_path / "#ffffff", collapsing())
    svg = charts.over_epochs(read([RunDirectory(run)]))[0].svg
    assert not re.findall(r'style="[^"]*#', svg)
    assert "var(--run-0)" in svg
    assert "<title>#ffffff, robust accuracy: 60.0%" in svg, "text stays text"


def test_a_page_of_long_runs_and_large_pictures_stays_small(tmp_path: Path) -> None:
    story, noise = Story(), np.random.default_rng(0)
    for epoch in range(120):
        story.train(loss=2 / (epoch + 1), steps=5)
        story.look(0.5 + 0.3 * np.sin(epoch), 0.4 + 0.1 * np.cos(epoch))
        for key in ("clean_accuracy", "robust_accuracy", "zero_gradients", "learning_rate", "skipped_steps"):
            story.add(key, float(noise.random()))
    runs = [write(tmp_path / f"a-campaign-of-mine-seed{seed}", story, explain=EXPLANATION) for seed in range(4)]
    for run in runs:
        evaluate(run, "strong", EVALUATION)
        (run / "figures").mkdir()
        Image.fromarray(noise.integers(0, 255, (500, 900, 3), np.uint8)).save(run / "figures" / "adversarial.png")
    shown = page.render(read([RunDirectory(run) for run in runs]))
    assert len(shown.encode()) < 300_000
    assert shown.count("data:image/webp;base64,") == 4
    assert not re.findall(r"(?:src|href)=\"(?!#|data:)", shown)


def test_a_picture_that_is_small_loses_little(tmp_path: Path) -> None:
    run = write(tmp_path / "run", Story())
    (run / "figures").mkdir()
    flat = Image.new("RGBA", (64, 32), (200, 30, 30, 255))
    flat.putpixel((0, 0), (0, 0, 0, 0))
    flat.save(run / "figures" / "explain.png")
    (picture,) = pictures.of_runs(read([RunDirectory(run)]))
    assert picture.caption == "What each network looks for (explain.png of run)"
    kept = Image.open(io.BytesIO(base64.b64decode(picture.url.partition("base64,")[2])))
    assert (kept.size, kept.mode) == ((64, 32), "RGBA")
    assert kept.getpixel((0, 0))[3] == 0
    np.testing.assert_allclose(kept.getpixel((40, 20)), (200, 30, 30, 255), atol=12)


@pytest.mark.parametrize("ground", ["#ffffff", "#1b2027", "#12151a"])
def test_text_of_pictures_can_be_read_on_light_and_dark_cards(ground: str) -> None:
    def light(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722))) + 0.05

    assert ground in Path(html.__file__).with_name("templates").joinpath("style.css").read_text().replace(
        "#fff;", "#ffffff;"
    )
    low, high = sorted((light(plot.ON_ANY), light(ground)))
    assert high / low > 3.9
