"""In CI a skip that nobody expects is a failure."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import skips

ROOT = Path(__file__).parents[2]
TESTS = """
import pytest

@pytest.fixture
def tool():
    pytest.skip("no tool here")

def test_known(tool):
    pass

@pytest.mark.parametrize("n", [1, 2])
def test_unknown(n):
    if n == 2:
        pytest.skip("who knew?")

@pytest.mark.skipif(True, reason="never on Mondays")
def test_marked():
    pass

@pytest.mark.xfail(reason="known to fail")
def test_xfail():
    assert False
"""
MODULE = 'import pytest\npytest.importorskip("nothing_of_this_name")\n'


def run(folder: Path, listed: str, *flags: str, ci: str = "1") -> tuple[int, str]:
    """The exit code and output of pytest on TESTS and MODULE, where ``listed`` are the expected skips."""
    (folder / "test_some.py").write_text(TESTS)
    (folder / "test_module.py").write_text(MODULE)
    (folder / "expected.txt").write_text(listed)
    (folder / "conftest.py").write_text(
        f"from pathlib import Path\nfrom tests import skips\nskips.LIST = Path({str(folder / 'expected.txt')!r})\n"
        "from tests.skips import pytest_configure\n"
    )
    env = {**os.environ, "CI": ci, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    env["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # they take longer to import than these tests to run
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(folder),
        str(folder),
        "--continue-on-collection-errors",
        *flags,
    ]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=120)
    return done.returncode, done.stdout


ALL = """# a comment
test_some.py::test_known  no tool here
test_some.py::test_unknown[2]  who *?
test_some.py::test_marked  never on *
test_module.py  could not import 'nothing_of_this_name'*
"""


@pytest.mark.parametrize("flags", [[], ["-p", "xdist.plugin", "-n", "2"]], ids=["alone", "xdist"])
def test_each_skip_that_nobody_expects_is_a_failure(tmp_path: Path, flags: list[str]) -> None:
    code, out = run(tmp_path, ALL.replace("no tool here", "the moon is full").partition("test_marked")[0], *flags)
    assert code == 1, out
    for reason in ("no tool here", "never on Mondays", "could not import 'nothing_of_this_name'"):
        assert f"unexpected skip: {reason}" in out
    assert "1 skipped" in out, "one is expected"
    assert "list it with its reason in expected.txt" in out


def test_expected_skips_pass_and_one_that_no_longer_happens_is_told(tmp_path: Path) -> None:
    code, out = run(tmp_path, ALL + "test_some.py::test_unknown[1]  it was so once\n")
    assert code == 0, out
    assert "expected.txt: test_some.py::test_unknown[1] was not skipped" in out
    assert out.count("was not skipped") == 1


def test_outside_ci_tests_may_be_skipped(tmp_path: Path) -> None:
    assert run(tmp_path, "", ci="")[0] == 0


def test_the_list_has_a_reason_for_each_test_and_each_test_is_there() -> None:
    for test, reason in skips.read(skips.LIST).items():
        assert reason
        assert (ROOT / test.partition("::")[0]).is_file(), test
