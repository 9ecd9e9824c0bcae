"""A study's page as a browser shows it: alone, light and dark, narrow and printed."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from hpcfast.scaling import report
from tests.browser.conftest import faults, hidden_tables
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
    sizes = shown.locator(".chart svg").evaluate_all("all => all.map((each) => each.getBoundingClientRect().width)")
    assert len(sizes) == 2
    assert min(sizes) > 200
    for selector, of, least, many in (
        ("body :not(title)", "color", 4.5, 100),
        (".chart text", "fill", 4.5, 20),
        (".chart use", "stroke", 3, 20),
    ):
        found = shown.evaluate(CONTRASTS, [selector, of])
        assert len(found) > many
        assert not [(ratio, html) for ratio, html in found if ratio < least]
    assert faults(shown) == []


def test_figures_follow_the_screen_and_print_is_light(shown: Page) -> None:
    dark = shown.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    ground = "all => [...new Set(all.map((each) => getComputedStyle(each).fill))]"
    boxes = shown.locator(".chart svg path[style*='--card']")
    assert boxes.evaluate_all(ground) == ["rgb(27, 32, 39)" if dark else "rgb(255, 255, 255)"]
    shown.emulate_media(media="print")
    assert boxes.evaluate_all(ground) == ["rgb(255, 255, 255)"]
    assert shown.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_a_narrow_page_does_not_scroll_sideways(shown: Page) -> None:
    for width in (320, 390, 1200):
        shown.set_viewport_size({"width": width, "height": 900})
        assert shown.evaluate("document.documentElement.scrollWidth") <= width
        assert hidden_tables(shown) == []


def test_who_cannot_see_the_page_can_use_it(shown: Page) -> None:
    assert shown.locator("main").count() == shown.locator("h1").count() == 1
    assert shown.locator("table").count() == shown.locator("table:has(thead th)").count() >= 4
    assert shown.locator("table th:not([scope]), table th:empty").count() == 0
    first = shown.get_by_role("img").first.get_attribute("aria-label") or ""
    assert first.startswith("Time to robust accuracy: digits, fast, strong, 1 node: ")
    assert shown.locator(".scroll:not([tabindex])").count() == 0
    ids = shown.locator("[id]").evaluate_all("all => all.map((each) => each.id)")
    links = shown.locator("nav a").evaluate_all("all => all.map((each) => each.hash.slice(1))")
    assert len(ids) == len(set(ids))
    assert set(links) <= set(ids)
    warnings = shown.locator(".warnings").inner_text()
    for word in ("crashed", "mixed versions", "slow ranks", "fewer than 5"):
        assert word in warnings
