"""What tests of exports share."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hpcfast import cli
from tests.unit.cli.test_cli import Done

Run = Callable[..., Done]


@pytest.fixture
def hpcfast(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run ``hpcfast export ARGS``."""

    def run(*args: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["hpcfast", "export", *map(str, args)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        return Done(caught.value.code or 0, *capsys.readouterr())

    return run


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "new" / "robust.pt"
