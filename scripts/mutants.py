"""How much the unit tests notice: faults drawn by a seed are put into a copy of the tree, one at a time.

``python scripts/mutants.py --count 100 --seed 0`` draws as many from each of four areas, runs against each fault the
tests that cover its line, the fastest first, until one fails, and writes docs/testing.md. A fault is killed if a test
fails or takes ten times as long as it should. What a stopped campaign has found is in ``--folder``, and the same
command goes on from there; killed faults stay killed, survivors are tried again if tests have changed.

Why not a library: mutmut 3.8 leaves alone all functions with a decorator (properties, ``torch.no_grad``), cosmic-ray
8.7 edits the checkout in place and runs all tests every time; neither draws by a seed.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from coverage import CoverageData

import mutants_page
from mutating import Mutant, Signatures, lines_of, mutants

ROOT = Path(__file__).resolve().parents[1]
AREAS = {
    "attacks": ("hpcfast/attacks/*.py",),
    "evaluation": ("hpcfast/evaluate/*.py",),
    "training": tuple(
        f"hpcfast/{name}.py"
        for name in ("learner", "loop", "precision", "guard", "checks", "plan", "run", "train", "checkpoint")
    ),
    "data order": ("hpcfast/data/folder.py", "hpcfast/data/augment.py", "hpcfast/data/skips.py"),
}
TESTS = (
    *("apgd", "attacks", "augment", "autoattack", "bad_files", "balls", "checkpoint", "checkpoint_writing", "checks"),
    *("corrupted_accuracy", "dali", "evaluate", "failure", "feed", "folder", "freeze", "gradients", "guard", "kept"),
    *("learner", "masking", "methods", "mixed", "noise", "outcomes", "pgd", "pgd_search", "plan", "precision"),
    *("random_starts", "resume", "rounds", "session", "skipped_steps", "skips", "target", "train", "training_draws"),
)
"""Files of tests/unit that test these areas; what others touch of them is not what they are for."""
LIBRARIES = (
    *("pytest", "torch", "torch.fx.experimental.optimization", "horovod.torch", "mpi4py", "nvidia.dali.pipeline"),
    *("nvidia.dali.fn", "timm", "pydantic", "omegaconf", "safetensors.torch", "sklearn.datasets", "PIL.Image"),
    *("pyautoattack", "hypothesis.extra.numpy", "scipy.ndimage", "matplotlib"),
)
"""Imported once; the tests of each fault run in a fork of the process that has."""
LEFT_OUT = "not slow"
"""Of the tests: some of these would be run against every other fault."""
PYTEST = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", LEFT_OUT)


@dataclass(frozen=True)
class Drawn:
    """A fault, and where it is."""

    area: str
    file: str
    mutant: Mutant

    @property
    def key(self) -> str:
        """Its name in the results: file, place and what is read there."""
        return f"{self.file} {self.mutant.start} {self.mutant.end} {self.mutant.text}"


@dataclass(frozen=True)
class Found:
    """What became of a fault."""

    key: str
    by: str
    """The test that failed; "" for a survivor."""
    tests: int
    """How many cover it."""
    seconds: float
    state: str
    """Digest of the tests it was tried with."""


def copy_tree(target: Path) -> None:
    """Make ``target`` the files of this checkout that git does not ignore."""
    shutil.rmtree(target, ignore_errors=True)
    listed = subprocess.check_output(["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, text=True)
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


def draw(tree: Path, seed: int, count: int) -> list[Drawn]:
    """``count`` faults of the package in ``tree``, as many from each area, by file and line.

    Those whose hashes with the seed are least: a change of the code changes the draw no more than itself.
    """
    signatures = Signatures()
    for file in sorted(tree.glob("hpcfast/**/*.py")):
        signatures.read(file.read_text())
    drawn = []
    for number, (area, patterns) in enumerate(AREAS.items()):
        found: list[tuple[str, Drawn]] = []
        alike: Counter[str] = Counter()
        for file in sorted(file for pattern in patterns for file in tree.glob(pattern)):
            for each in mutants(file.read_text(), signatures):
                name = f"{seed} {file.relative_to(tree)} {each.function} {each.before} {each.after}"
                alike[name] += 1
                place = hashlib.sha256(f"{name} {alike[name]}".encode()).hexdigest()
                found.append((place, Drawn(area, str(file.relative_to(tree)), each)))
        share = count * (number + 1) // len(AREAS) - count * number // len(AREAS)
        chosen = [each for _, each in sorted(found, key=lambda pair: pair[0])[:share]]
        drawn += sorted(chosen, key=lambda each: (each.file, each.mutant.start))
    return drawn


def environment(tree: Path, **more: str) -> dict[str, str]:
    """Of the tests of ``tree``. No bytecode is kept: a mutant of the same second and size would not be seen."""
    return os.environ | {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"} | more


class Coverage:
    """Which tests run a line, and how long they take; measured once, and again for tests that have changed."""

    def __init__(self, folder: Path, tree: Path) -> None:
        self._tree, self._data, self._file = tree, folder / "coverage", folder / "coverage.json"
        package = digest(tree, "hpcfast/**/*.py")
        self._known: dict[str, Any] = json.loads(self._file.read_text()) if self._file.exists() else {}
        if self._known.get("package") != package:
            self._data.unlink(missing_ok=True)
            self._known = {"package": package, "tests": {}, "seconds": {}}
        self._measure()
        self.seconds: dict[str, float] = self._known["seconds"]
        self._covered = CoverageData(str(self._data))
        self._covered.read()

    def _measure(self) -> None:
        files = [self._tree / "tests" / "unit" / f"test_{name}.py" for name in TESTS]
        now = {str(file.relative_to(self._tree)): _sha(file) for file in files if file.is_file()}
        stale = [file for file, sha in now.items() if self._known["tests"].get(file) != sha]
        if not stale:
            return
        print(f"measuring which tests run which lines: {len(stale)} files", flush=True)
        report = self._data.with_suffix(".xml")
        options = ["--cov=hpcfast", "--cov-append", "--cov-context=test", "--cov-report=", f"--junitxml={report}"]
        command = [*PYTEST, *options, "-o", "junit_family=xunit1", *stale]
        subprocess.run(command, cwd=self._tree, env=environment(self._tree, COVERAGE_FILE=str(self._data)), check=False)
        for case in ET.parse(report).iter("testcase"):
            if case.find("failure") is None and case.find("error") is None:  # what fails without a fault proves nothing
                self._known["seconds"][f"{case.get('file')}::{case.get('name')}"] = float(case.get("time") or 0)
        self._known["tests"] = now
        self._file.write_text(json.dumps(self._known))

    def of(self, drawn: Drawn) -> list[str]:
        """The tests that run the line of a fault, the fastest first.

        A line that runs once, when its module is imported, is of no test: those then that run the rest of its function
        or class, or else of its file.
        """
        contexts = self._covered.contexts_by_lineno(str(self._tree / drawn.file))
        lines = [{drawn.mutant.line}]
        parts = drawn.mutant.function.split(".") if drawn.mutant.function else []
        spans = lines_of((self._tree / drawn.file).read_text())
        lines += [spans[".".join(parts[:depth])] for depth in range(len(parts), -1, -1)]
        for group in lines:
            tests = {context.split("|")[0] for line in group for context in contexts.get(line, ()) if context}
            if tests := {test for test in tests if test in self.seconds}:
                return sorted(tests, key=lambda test: (self.seconds[test], test))
        return []


def kill(tree: Path, file: str, text: str, tests: list[str], limit: float) -> str:
    """Run ``tests`` while ``file`` of the copy ``tree`` reads ``text``; the one that fails, "" if none does."""
    path, output = tree / file, tree.parent / "output.txt"
    kept = path.read_text()
    path.write_text(text)
    os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: threads don't survive a fork
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(LIBRARIES))
    child = context.Process(target=_run, args=(tree, tests, output))
    try:
        child.start()
        child.join(limit)
        if child.exitcode is None:
            return f"no end after {limit:.0f} s"
    finally:
        if child.exitcode is None:
            os.killpg(child.pid or 0, signal.SIGKILL)
            child.join()
        path.write_text(kept)
    if child.exitcode == 0:
        return ""
    lines = output.read_text(errors="replace").splitlines()
    failed = [line.split(" ", 1)[1] for line in lines if line.startswith(("FAILED ", "ERROR "))]
    return failed[0].split(" - ")[0] if failed else f"pytest ended with {child.exitcode}"


def _run(tree: Path, tests: list[str], output: Path) -> None:
    import pytest

    os.setsid()  # what the tests start ends with them
    os.chdir(tree)
    os.environ.update(environment(tree))
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(tree))
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for standard in (1, 2):
        os.dup2(descriptor, standard)
    arguments = ["-x", "--no-header", "--tb=no", "-o", "addopts="]
    code = pytest.main([*PYTEST[3:], *arguments, *tests])
    sys.stdout.flush()
    os._exit(int(code))


def digest(tree: Path, pattern: str) -> str:
    """One hash of all files that match."""
    return hashlib.sha256("".join(_sha(file) for file in sorted(tree.glob(pattern))).encode()).hexdigest()


def _sha(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def campaign(folder: Path, seed: int, count: int) -> list[tuple[Drawn, Found]]:
    """Try all faults, but those that are settled; each result is in ``folder`` as soon as it is known."""
    tree, results = folder / "tree", folder / "results.jsonl"
    copy_tree(tree)
    drawn, coverage = draw(tree, seed, count), Coverage(folder, tree)
    known = _known(results, digest(tree, "hpcfast/**/*.py"))
    tests_now = digest(tree, "tests/**/*.py")
    ended = []
    for number, each in enumerate(drawn, 1):
        found = known.get(each.key)
        if found is None or not (found.by or found.state == tests_now):
            found = _try(tree, each, coverage, tests_now)
            with results.open("a") as file:
                file.write(json.dumps({"package": digest(tree, "hpcfast/**/*.py"), **asdict(found)}) + "\n")
        ended.append((each, found))
        killed = sum(bool(one.by) for _, one in ended)
        what = f"{each.file}:{each.mutant.line} {each.mutant.function}"
        print(
            f"{number}/{count}  {killed} killed  {found.seconds:5.1f} s  {what}: {found.by or 'SURVIVES'}", flush=True
        )
    return ended


def _known(results: Path, package: str) -> dict[str, Found]:
    found = {}
    for line in results.read_text().splitlines() if results.exists() else ():
        row = json.loads(line)
        if row.pop("package") == package:
            found[row["key"]] = Found(**row)
    return found


def _try(tree: Path, drawn: Drawn, coverage: Coverage, state: str) -> Found:
    tests, began = coverage.of(drawn), time.monotonic()
    text = drawn.mutant.applied((tree / drawn.file).read_text())
    limit = 120 + 10 * sum(coverage.seconds[test] for test in tests)
    by = kill(tree, drawn.file, text, tests, limit) if tests else ""
    return Found(drawn.key, by, len(tests), round(time.monotonic() - began, 1), state)


def main() -> None:
    """Run the campaign that the command line asks for, and write its page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100, help="faults in all (default 100)")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (default 0)")
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "mutants", help="default runs/mutants")
    arguments = parser.parse_args()
    os.nice(10)
    folder = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    ended = campaign(folder, arguments.seed, arguments.count)
    mutants_page.write(ROOT, arguments.seed, [_row(*each) for each in ended])


def _row(drawn: Drawn, found: Found) -> tuple[str, str, str, str]:
    """Of the page's table: area, place, change, test."""
    code, mutant = mutants_page.code, drawn.mutant
    module = drawn.file.removeprefix("hpcfast/").removesuffix(".py").replace("/", ".").removesuffix(".__init__")
    place = f"{module}{':' if mutant.function else ''}{mutant.function} | {mutant.line}"
    return drawn.area, place, f"{code(mutant.after)} | {code(mutant.before)}", found.by.removeprefix("tests/unit/")


if __name__ == "__main__":
    main()
