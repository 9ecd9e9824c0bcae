"""Where CI is set no test may be skipped but those that expected_skips.txt lists: what never runs proves nothing."""

import os
from collections.abc import Generator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

LIST = Path(__file__).parent / "expected_skips.txt"


def read(file: Path) -> dict[str, str]:
    """Reasons by test, as ``file`` lists them; a line is a test, two spaces or more and the reason. Both may hold *."""
    lines = (line for line in file.read_text().splitlines() if line.strip() and not line.startswith("#"))
    return {test: reason.strip() for test, _, reason in (line.partition("  ") for line in lines)}


class Skips:
    """Makes a failure of every skip that is not expected; says which expected ones no longer happen."""

    def __init__(self, expected: dict[str, str]) -> None:
        self.expected, self.ran = expected, set[str]()

    def judge(self, report: Any) -> Any:
        """``report``, which fails now if it is an unexpected skip."""
        if report.outcome == "skipped" and not hasattr(report, "wasxfail"):
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            reason = reason.removeprefix("Skipped: ")
            if not any(_matches(report.nodeid, test) and _matches(reason, why) for test, why in self.expected.items()):
                report.outcome = "failed"
                report.longrepr = f"unexpected skip: {reason}\nMend it, or list it with its reason in {LIST.name}."
        return report

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Generator[None, Any, Any]:
        return self.judge((yield))

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self) -> Generator[None, Any, Any]:
        return self.judge((yield))

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when == "call" and report.outcome != "skipped":
            self.ran.update(test for test in self.expected if _matches(report.nodeid, test))

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        for test in sorted(self.ran):
            terminalreporter.write_line(f"{LIST.name}: {test} was not skipped; is its line still needed?", yellow=True)


def _matches(text: str, pattern: str) -> bool:
    return fnmatchcase(text, pattern.replace("[", "[[]"))  # the [ of a parameter is one


def pytest_configure(config: pytest.Config) -> None:
    if os.environ.get("CI"):
        config.pluginmanager.register(Skips(read(LIST)))
