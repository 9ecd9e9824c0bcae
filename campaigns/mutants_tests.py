"""Running the tests of a copy of the tree: which of them run a line, and which fails if the line is another."""

import ast
import hashlib
import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

from coverage import CoverageData

TESTS = (
    *("apgd", "attacks", "augment", "autoattack", "bad_files", "balls", "checkpoint", "checkpoint_writing", "checks"),
    *("class_names", "cli", "corrupted_accuracy", "dali", "evaluate", "failure", "feed", "folder", "freeze"),
    *("gradients", "guard", "kept", "layout", "learner", "masking", "memory", "methods", "mixed", "noise"),
    *("noise_scale", "not_finite", "pgd", "pgd_search", "course", "precision", "survey"),
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
OPTIONS = ("-q", "-p", "no:cacheprovider", "-m", LEFT_OUT, "--no-header", "--tb=no", "-o", "addopts=")
LONGEST = 3600.0
"""Seconds that the tests of a file may take."""


def copy_tree(root: Path, target: Path) -> None:
    """Make ``target`` the files of the checkout ``root`` that git does not ignore."""
    shutil.rmtree(target, ignore_errors=True)
    listed = subprocess.check_output(["git", "ls-files", "-coz", "--exclude-standard"], cwd=root, text=True)
    for name in filter(None, listed.split("\0")):
        if (root / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, target / name)


class Coverage:
    """Which tests run a line, and how long they take; measured once, and again for files of tests that have changed."""

    def __init__(self, folder: Path, tree: Path) -> None:
        self._tree, self._data, self._file = tree, folder / "coverage", folder / "coverage.json"
        package = digest(tree, "hpcfast/**/*.py")
        self._known: dict[str, Any] = json.loads(self._file.read_text()) if self._file.exists() else {}
        if self._known.get("package") != package:
            self._data.unlink(missing_ok=True)
            self._known = {"package": package, "tests": {}, "seconds": {}}
        for name in TESTS:
            for file in tree.glob(f"tests/unit/*/test_{name}.py"):
                self._measure(file.relative_to(tree))
        self.seconds: dict[str, float] = self._known["seconds"]
        self._covered = CoverageData(str(self._data))
        self._covered.read()

    def _measure(self, file: Path) -> None:
        sha = _sha(self._tree / file)
        if self._known["tests"].get(str(file)) == sha:
            return
        print(f"which lines {file} runs", flush=True)
        report = self._data.with_suffix(".xml")
        report.unlink(missing_ok=True)
        options = ["--cov=hpcfast", "--cov-append", "--cov-context=test", "--cov-report=", f"--junitxml={report}"]
        settings = {"COVERAGE_FILE": str(self._data)}
        run_tests(self._tree, [*options, "-o", "junit_family=xunit1", str(file)], LONGEST, settings)
        for case in ET.parse(report).iter("testcase") if report.exists() else ():
            if case.find("failure") is None and case.find("error") is None:  # what fails without a fault proves nothing
                self._known["seconds"][f"{case.get('file')}::{case.get('name')}"] = float(case.get("time") or 0)
        self._known["tests"][str(file)] = sha
        self._file.write_text(json.dumps(self._known))

    def of(self, file: str, function: str, line: int) -> list[str]:
        """The tests that run the line of a file, the fastest first.

        A line that runs once, when its module is imported, is of no test: those then that run the rest of its function
        or class, or else of its file, and those whose files speak of the class or the module.
        """
        contexts = self._covered.contexts_by_lineno(str(self._tree / file))
        lines = [{line}]
        parts = function.split(".") if function else []
        spans = lines_of((self._tree / file).read_text())
        lines += [spans[".".join(parts[:depth])] for depth in range(len(parts), -1, -1)]
        for group in lines:
            tests = {context.split("|")[0] for line in group for context in contexts.get(line, ()) if context}
            if tests := {test for test in tests if test in self.seconds}:
                if group != lines[0]:
                    tests |= self._speaking_of(Path(file).stem, *parts[:1])
                return sorted(tests, key=lambda test: (self.seconds[test], test))
        return []

    def _speaking_of(self, *words: str) -> set[str]:
        pattern = re.compile(rf"\b({'|'.join(words)})\b")
        files = {test.split("::")[0] for test in self.seconds}
        speaking = {file for file in files if pattern.search((self._tree / file).read_text())}
        return {test for test in self.seconds if test.split("::")[0] in speaking}


def lines_of(source: str) -> dict[str, set[int]]:
    """The lines of each function and class of a file, by its qualified name; "" is all of it."""
    found = {"": set(range(1, source.count("\n") + 2))}

    def walk(node: ast.AST, name: str) -> None:
        for child in ast.iter_child_nodes(node):
            inner = name
            if isinstance(child, ast.FunctionDef | ast.ClassDef):
                inner = f"{name}.{child.name}".lstrip(".")
                found.setdefault(inner, set()).update(range(child.lineno, (child.end_lineno or 0) + 1))
            walk(child, inner)

    walk(ast.parse(source), "")
    return found


def kill(tree: Path, file: str, text: str, tests: list[str], limit: float) -> str:
    """Run ``tests`` while ``file`` of the copy ``tree`` reads ``text``; the one that fails, "" if none does."""
    path = tree / file
    kept = path.read_text()
    path.write_text(text)
    try:
        code, lines = run_tests(tree, ["-x", *tests], limit)
        if code == 4:  # a test of another name, for its name has a value that the fault has changed: all of its file
            code, lines = run_tests(tree, ["-x", *dict.fromkeys(test.split("::")[0] for test in tests)], LONGEST)
    finally:
        path.write_text(kept)
    if code is None:
        return f"no end after {limit:.0f} s"
    if code == 0:
        return ""
    if code == 4:
        raise RuntimeError("pytest finds none of its tests:\n" + "\n".join(lines[-20:]))
    failed = [line.split(" ", 1)[1] for line in lines if line.startswith(("FAILED ", "ERROR "))]
    return failed[0].split(" - ")[0] if failed else f"pytest ended with {code}"


def run_tests(
    tree: Path, arguments: list[str], limit: float, settings: dict[str, str] | None = None
) -> tuple[int | None, list[str]]:
    """Let pytest run in ``tree``, in a fork of a process that has imported ``LIBRARIES``, with more ``settings``.

    Returns:
        pytest's exit code (None: it did not end within ``limit`` seconds), and the lines it wrote.
    """
    os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: threads don't survive a fork
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(LIBRARIES))
    output = tree.parent / "output.txt"
    child = context.Process(target=_pytest, args=(tree, arguments, output, settings or {}))
    child.start()
    try:
        child.join(limit)
        code = child.exitcode
    finally:
        if child.exitcode is None:
            os.killpg(child.pid or 0, signal.SIGKILL)
            child.join()
    return code, output.read_text(errors="replace").splitlines() if output.exists() else []


def _pytest(tree: Path, arguments: list[str], output: Path, settings: dict[str, str]) -> None:
    import pytest

    os.setsid()  # what the tests start ends with them
    os.chdir(tree)
    # No bytecode: a fault of the same second and size as the one before would not be seen.
    os.environ.update({"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1", **settings})
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(tree))
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for standard in (1, 2):
        os.dup2(descriptor, standard)
    code = pytest.main([*OPTIONS, *arguments])
    sys.stdout.flush()
    os._exit(int(code))


def digest(tree: Path, pattern: str) -> str:
    """One hash of all files that match."""
    return hashlib.sha256("".join(_sha(file) for file in sorted(tree.glob(pattern))).encode()).hexdigest()


def _sha(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
