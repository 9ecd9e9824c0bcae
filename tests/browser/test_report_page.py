"""The report's page as a browser shows it: alone, light and dark, wide and narrow."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from hpcfast.report import page as report_page
from hpcfast.report.runs import read
from hpcfast.runs.directory import RunDirectory
from tests.browser.conftest import faults, hidden_tables
from tests.unit.hostile import STRINGS
from tests.unit.stories import collapsing, write

pytestmark = pytest.mark.browser

SCHEMES = ("light", "dark")

# Contrast (WCAG 2.2, 1.4.3) of the colour that `property` names in each element against what lies behind it.
CONTRASTS = """([selector, property]) => {
  const numbers = (color) => color.match(/[\\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const color = numbers(getComputedStyle(each).backgroundColor);
      if (color.length === 3 || color[3] === 1) return color;
    }
    throw new Error("nothing is behind");
  };
  return [...document.querySelectorAll(selector)]
    .filter((element) => property !== "color" || [...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim()))
    .map((element) => {
      const colors = [numbers(getComputedStyle(element)[property]), behind(element)];
      const [low, high] = colors.map(luminance).sort((a, b) => a - b);
      return [(high + 0.05) / (low + 0.05), element.outerHTML.slice(0, 80)];
    });
}"""


@pytest.fixture
def show(chromium: Browser, report: Path) -> Iterator[Callable[..., Page]]:
    """Open the report; at the end there must have been no error and no request for anything but the file."""
    complaints: list[str] = []
    contexts = []

    def opened(scheme: Any = "light", width: int = 1280, script: bool = True) -> Page:
        size: Any = {"width": width, "height": 900}
        contexts.append(chromium.new_context(color_scheme=scheme, viewport=size, java_script_enabled=script))
        page = contexts[-1].new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: None if local(request.url) else complaints.append(request.url))
        page.goto(report.as_uri())
        return page

    def local(url: str) -> bool:
        return url == report.as_uri() or url.startswith("data:")

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.mark.parametrize("scheme", SCHEMES)
def test_everything_is_drawn_and_nothing_is_fetched(show: Callable[..., Page], scheme: str) -> None:
    page = show(scheme)
    charts = page.locator(".chart svg")
    assert charts.count() >= 5
    for i in range(charts.count()):
        box = charts.nth(i).bounding_box()
        assert box
        assert box["width"] > 200
        assert box["height"] > 120
    assert page.locator(".chart title", has_text="undone").count() > 0
    assert page.locator("img").evaluate("image => image.naturalWidth") == 1200
    assert "a black box breaks more" in page.locator(".warning").first.inner_text()


def test_light_and_dark_differ(show: Callable[..., Page]) -> None:
    light, dark = (show(scheme).evaluate("getComputedStyle(document.body).backgroundColor") for scheme in SCHEMES)
    assert light != dark


@pytest.mark.parametrize("scheme", SCHEMES)
def test_text_can_be_read_and_lines_can_be_seen(show: Callable[..., Page], scheme: str) -> None:
    page = show(scheme)
    page.evaluate("document.querySelectorAll('details').forEach((each) => (each.open = true))")
    for selector, of, least in (
        ("body :not(title)", "color", 4.5),
        (".chart text", "fill", 4.5),
        (".chart use[style*=run]", "fill", 3),
    ):
        found = page.evaluate(CONTRASTS, [selector, of])
        assert len(found) > 20
        pale = [(ratio, html) for ratio, html in found if ratio < least]
        assert not pale


@pytest.mark.parametrize("scheme", SCHEMES)
def test_axe_finds_no_fault(show: Callable[..., Page], scheme: str) -> None:
    page = show(scheme)
    page.evaluate("document.querySelectorAll('details').forEach((each) => (each.open = true))")
    assert faults(page) == []


@pytest.mark.parametrize("width", [390, 1200])
def test_tables_fit_or_show_that_they_go_on(show: Callable[..., Page], width: int) -> None:
    page = show(width=width)
    assert hidden_tables(page) == []
    caption = page.locator("caption span").first.bounding_box()
    assert caption
    assert caption["x"] + caption["width"] <= width


def test_a_sentence_says_first_what_was_found(show: Callable[..., Page]) -> None:
    page = show()
    first = page.locator("main > *").first.inner_text()
    assert "Of 12 test images the network classifies 9 rightly, and 6 still after the strongest attack on file" in first
    assert "pgd, 3 steps, 2 restarts, L2 eps 0.5" in first
    assert page.locator("dt", has_text="pgd").is_visible()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_runs_have_different_colours(show: Callable[..., Page], scheme: str) -> None:
    names = show(scheme).locator("h1 .run")
    colours = names.evaluate_all("all => all.map((each) => getComputedStyle(each).borderLeftColor)")
    assert len(colours) == len(set(colours)) == 4


@pytest.mark.parametrize("width", [320, 375, 768])
def test_a_narrow_page_does_not_scroll_sideways(show: Callable[..., Page], width: int) -> None:
    page = show(width=width)
    page.evaluate("document.querySelectorAll('details').forEach((each) => (each.open = true))")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_every_mark_has_its_value(show: Callable[..., Page]) -> None:
    marks = show().locator(".chart").filter(has_text="Training loss").locator("title").all_text_contents()
    assert "steady, train loss: 1.25 (epoch 3, step 30)" in marks
    assert "running, train loss, undone: 1 (epoch 1.5, step 15)" in marks


def test_who_cannot_see_the_page_can_use_it(show: Callable[..., Page]) -> None:
    page = show()
    assert page.locator("html").get_attribute("lang") == "en"
    assert page.locator("main").count() == page.locator("h1").count() == 1
    (chart,) = page.get_by_role("img", name="Training loss").all()
    assert "steady, train loss: 1.25 (epoch 3, step 30)" in (chart.get_attribute("aria-label") or "")
    assert page.locator("table th:not([scope])").count() == 0
    assert page.locator("img:not([alt])").count() == 0
    assert page.locator(".scroll:not([tabindex])").count() == 0
    ids = page.locator("[id]").evaluate_all("all => all.map((each) => each.id)")
    assert len(ids) == len(set(ids))
    links = page.locator("nav a").evaluate_all("all => all.map((each) => each.hash.slice(1))")
    assert set(links) <= set(ids)


def test_without_scripts_all_is_there(show: Callable[..., Page]) -> None:
    page = show(script=False)
    assert page.locator(".chart").filter(has_text="Training loss").locator("svg text").first.is_visible()
    page.locator("summary").last.click()
    assert page.get_by_text("optim.weight_decay").is_visible()


def test_print_is_light_and_complete(show: Callable[..., Page]) -> None:
    page = show("dark")
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.get_by_text("optim.weight_decay").is_visible()
    assert page.locator("nav").is_hidden()


def test_no_name_acts(chromium: Browser, tmp_path: Path) -> None:
    acted: list[str] = []
    names = [name for name in STRINGS if name.strip() and name != ".." and "/" not in name and len(name) < 200]
    records = read([RunDirectory(write(tmp_path / name, collapsing())) for name in names])
    report_page.write(records, tmp_path / "report.html")
    page = chromium.new_page()
    page.on("dialog", lambda dialog: acted.append(dialog.message))
    page.on("console", lambda message: acted.append(message.text))
    page.on("request", lambda request: acted.append(request.url))
    page.goto((tmp_path / "report.html").as_uri())
    assert page.title() != "X"
    assert page.evaluate("document.scripts.length") == 1
    assert page.locator("h1 .run").count() == len(names)
    page.close()
    assert [
        each for each in acted if each != (tmp_path / "report.html").as_uri() and not each.startswith("data:")
    ] == []
