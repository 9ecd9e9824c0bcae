"""A study's page as a browser shows it: alone, light and dark, narrow and printed."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from hpcfast.scaling import report
from tests.browser.test_report_page import CONTRASTS
from tests.unit.studies import row, study_rows

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def study_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with warnings of all kinds and a name that must be escaped."""
    folder = tmp_path_factory.mktemp("study")
    study: Any = SimpleNamespace(name="s", title="<script>throw 1<", price_per_node_hour=2.0, folder=folder)
    rows = [replace(each, epochs=None) for each in study_rows(seeds=2) if each.scaling == "strong"]  # fewer figures
    crashed = row(5, 4, None, status="crashed", note="a/very/long/path/" * 12, job="<img src=x onerror=throw>")
    mixed = replace(rows[-1], versions="torch 2.13", stragglers=("rank 3 on n2: 1.4 times the median step",))
    return report.write(study, [*rows[:-1], mixed, crashed])[0]


@pytest.fixture(params=["light", "dark"])
def shown(chromium: Browser, study_page: Path, request: pytest.FixtureRequest) -> Iterator[Page]:
    """The page; at the end there must have been no error and no request for anything but the file."""
    complaints: list[str] = []
    context = chromium.new_context(color_scheme=request.param, viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda sent: None if sent.url.startswith("data:") else complaints.append(sent.url))
    page.goto(study_page.as_uri())
    yield page
    context.close()
    assert complaints == [study_page.as_uri()]


def test_everything_is_drawn_and_can_be_read(shown: Page) -> None:
    sizes = shown.locator("img").evaluate_all("all => all.map((each) => [each.naturalWidth, each.width])")
    assert len(sizes) == 2
    assert all(natural > 200 and width > 200 for natural, width in sizes)
    found = shown.evaluate(CONTRASTS, ["body :not(title)", "color"])
    assert len(found) > 100
    assert not [(ratio, html) for ratio, html in found if ratio < 4.5]


def test_figures_follow_the_screen_and_print_is_light(shown: Page) -> None:
    dark = shown.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    inverted = "all => all.map((each) => getComputedStyle(each).filter.includes('invert'))"
    assert set(shown.locator("img").evaluate_all(inverted)) == {dark}
    shown.emulate_media(media="print")
    assert set(shown.locator("img").evaluate_all(inverted)) == {False}
    assert shown.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_a_narrow_page_does_not_scroll_sideways(shown: Page) -> None:
    for width in (320, 400):
        shown.set_viewport_size({"width": width, "height": 900})
        assert shown.evaluate("document.documentElement.scrollWidth") <= width


def test_who_cannot_see_the_page_can_use_it(shown: Page) -> None:
    assert shown.locator("main").count() == shown.locator("h1").count() == 1
    assert shown.locator("table").count() == shown.locator("table:has(thead th)").count() >= 4
    assert shown.locator("table th:not([scope]), table th:empty").count() == 0
    assert shown.locator("img:not([alt]), img[alt='']").count() == 0
    assert "fast, strong, 1 node: " in (shown.locator("img").first.get_attribute("alt") or "")
    assert shown.locator(".scroll:not([tabindex])").count() == 0
    ids = shown.locator("[id]").evaluate_all("all => all.map((each) => each.id)")
    links = shown.locator("nav a").evaluate_all("all => all.map((each) => each.hash.slice(1))")
    assert len(ids) == len(set(ids))
    assert set(links) <= set(ids)
    warnings = shown.locator(".warnings").inner_text()
    for word in ("crashed", "mixed versions", "slow ranks", "fewer than 5"):
        assert word in warnings
