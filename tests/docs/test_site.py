"""The documentation as a site: it builds without a warning, loads nothing from elsewhere, and its pages are short."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hpcfast.config import load

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
TUTORIALS = sorted((DOCS / "tutorials").glob("*.md"))
WRITTEN = {DOCS / "reference" / "cli.md", DOCS / "reference" / "config.md"}
"""By `make docs`, from the code."""
LINE = r"^(?:sbatch|hpcfast|torchrun|horovodrun) .+"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` does; with --quiet mkdocs would count no warning."""
    folder = tmp_path_factory.mktemp("site")
    env = dict(os.environ, PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}", NO_MKDOCS_2_WARNING="1")
    command = ["mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_site_has_every_page(site: Path) -> None:
    for page in PAGES:
        name = str(page.relative_to(DOCS))
        assert (site / name).with_suffix(".html").exists(), name


def test_a_reader_fetches_nothing_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = re.sub(r"<link rel=\"canonical\"[^>]*>", "", page.read_text())
        fetched = re.findall(r"<(?:script|img|iframe|link)\b[^>]*(?:src|href)=\"?(https?:|//)[^>]*>", text)
        assert fetched == [], page.name
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?https?:|@import", sheet.read_text()), sheet.name


def words(page: Path) -> int:
    """Words of a page, without code and tables."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return sum(len(line.split()) for line in text.splitlines() if not line.lstrip().startswith("|"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_a_page_is_short(page: Path) -> None:
    if page not in WRITTEN:
        assert words(page) <= (700 if page in TUTORIALS else 1200), "split it along its purpose"


@pytest.mark.parametrize("page", [*TUTORIALS, DOCS / "cluster.md"], ids=lambda page: page.stem)
def test_what_a_page_shows_without_running_it_is_valid(page: Path) -> None:
    """Batch jobs and GPUs: configurations exist, and settings are legal."""
    for block in re.findall(r"```bash\n(.*?)```", page.read_text(), re.DOTALL):
        for line in re.findall(LINE, block, re.MULTILINE):
            settings = re.findall(r"(?<=\s)[a-z_.]+=\S+", line)
            for script in re.findall(r"\bslurm/\w+\.sh", line):
                found = re.search(r"configs/\w+\.yaml", (ROOT / script).read_text())
                assert found or "configs/" in line or "evaluate" in script, line
                load(ROOT / found[0], settings) if found else None
            for config in re.findall(r"configs/\w+\.yaml", line):
                load(ROOT / config, settings)


def test_the_notebook_runs(tmp_path: Path) -> None:
    cells = json.loads((DOCS / "notebook.ipynb").read_text())["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    assert all(cell.get("outputs", []) == [] for cell in cells)
    (tmp_path / "notebook.py").write_text(code)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    env = dict(os.environ, OMP_NUM_THREADS="1", MPLBACKEND="agg", PYTHONPATH=str(ROOT))
    done = subprocess.run(
        [sys.executable, "notebook.py"], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=250, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert (tmp_path / "notebook.png").read_bytes().startswith(b"\x89PNG")
