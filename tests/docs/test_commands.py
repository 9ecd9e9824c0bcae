"""Every command that README and docs show is run, as it stands, but with less work to do."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests import forked

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md")), *sorted(DOCS.glob("tutorials/*.md"))]
# Added to `hpcfast train`: one short epoch of a narrow network. Everything else stays as the page has it.
SHORT = [
    "epochs=1", "schedule={name: cosine}", "evaluation.every=0", "model.options.width=2",
    "evaluation.final={attack: {name: pgd, steps: 2}, images: 12}",
]  # fmt: skip
LIMIT = 250
"""Seconds that a command may take."""
ORDER = ("data", "init", "train", "export", "eval", "explain", "report", "config")


def shown(page: Path) -> list[str]:
    """The ``$ …`` lines of a page's ```console blocks."""
    blocks = re.findall(r"```console\n(.*?)```", page.read_text(), re.DOTALL)
    return [line for block in blocks for line in re.findall(r"^\$ (.+)$", block, re.MULTILINE)]


def commands() -> list[str]:
    """Those of all pages, each once, in an order in which they can be run."""
    return sorted(dict.fromkeys(line for page in PAGES for line in shown(page)), key=rank)


def rank(command: str) -> int:
    words = command.split()
    after = words[words.index("hpcfast") + 1] if "hpcfast" in words[:-1] else ""
    return ORDER.index(after) if after in ORDER else -1


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like a checkout, where commands may write, with the files that pages show under a title."""
    path = tmp_path_factory.mktemp("docs")
    for name in ("configs", "Makefile", "scripts", "campaigns"):
        (path / name).symlink_to(ROOT / name)
    (path / "hosts.sh").write_text("#!/bin/sh\necho localhost:2\n")
    (path / "hosts.sh").chmod(0o755)
    for page in PAGES:
        for name, text in re.findall(r"```\w+ title=\"(.+?)\"\n(.*?)```", page.read_text(), re.DOTALL):
            (path / name).parent.mkdir(exist_ok=True)
            (path / name).write_text(text)
    return path


@pytest.mark.distributed
@pytest.mark.parametrize("command", commands())
def test_command(sandbox: Path, command: str) -> None:
    words = shlex.split(command)
    if words[0] == "make":  # make demo and make test are tests of their own: here, that the target exists
        words.insert(1, "--dry-run")
    elif words[0] == "pip":  # test_installing.py installs: here, that there is such a package
        words = [str(ROOT) if word == "." else word for word in words]
        words += ["--dry-run", "--no-index", "--no-build-isolation", "--no-deps"]
    elif words[1:] == ["demo"]:  # test_installing.py runs it
        words.append("--help")
    elif "train" in words:
        words += SHORT
    env = dict(os.environ, PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}", OMP_NUM_THREADS="1")
    env.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1", COLUMNS="100")
    if words[0] == "hpcfast":
        code, output = forked.run(0, ["-m", *words], sandbox, env, LIMIT)
    else:  # launchers, and make
        done = subprocess.run(
            words, cwd=sandbox, env=env, text=True, timeout=LIMIT,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
        code, output = done.returncode, done.stdout
    assert code == 0, f"{command}\n{output[-4000:]}"


def test_pages_show_commands() -> None:
    found = commands()
    assert {"make demo", "make test", "hpcfast data prepare digits", "hpcfast train photos.yaml"} <= set(found)
    assert any(command.startswith("horovodrun") for command in found)


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} links to {target}"
