"""A real Chromium, and a report to open in it."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from hpcfast.report import page
from hpcfast.report.runs import read
from hpcfast.runs.directory import RunDirectory
from tests.unit.stories import EVALUATION, EXPLANATION, Story, collapsing, evaluate, write

QUIET = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


@pytest.fixture(scope="module")  # not longer: while playwright runs, no other test could run an event loop
def chromium() -> Iterator[Browser]:
    """Debian's Chromium with an empty profile."""
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        missing = "no Chromium to test the page in: apt install chromium"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(QUIET))
        yield browser
        browser.close()


def faults(page: Page) -> list[str]:
    """What axe-core, the checker of accessibility, finds wrong with a page as it is shown."""
    found = Axe().run(page).response["violations"]
    return [f"{each['id']} ({each['impact']}): {each['nodes'][0]['html'][:200]}" for each in found]


def hidden_tables(page: Page) -> list[str]:
    """Names of tables that are wider than their place without a shade at the edge that says so, or a way to scroll."""
    return list(
        page.evaluate("""() => [...document.querySelectorAll('.scroll')]
            .filter((each) => each.scrollWidth > each.clientWidth)
            .filter((each) => {
                const style = getComputedStyle(each);
                const shaded = style.overflowX === 'auto' && style.backgroundImage.includes('gradient');
                return !shaded || each.tabIndex !== 0;
            })
            .map((each) => each.ariaLabel)""")
    )


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page that has everything: four runs, of which one collapsed, one runs still and one has a bad name."""
    folder = tmp_path_factory.mktemp("browser")
    first = write(
        folder / "a-run-with-a-rather-long-name-as-campaigns-have-them-seed0", collapsing(), explain=EXPLANATION
    )
    evaluate(first, "strong", EVALUATION)
    (first / "figures").mkdir()
    Image.new("L", (1200, 300)).save(first / "figures" / "adversarial.png")
    running = write(folder / "running", collapsing(), finished=False)
    steady = Story()
    for loss in (2.0, 1.5, 1.25):
        steady.train(loss)
        steady.look(0.5, 0.4)
    others = [write(folder / name, steady) for name in ("<script>throw 1<", "steady")]
    target = folder / "report.html"
    page.write(read([RunDirectory(run) for run in (first, running, *others)]), target)
    return target
