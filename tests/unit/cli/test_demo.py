"""`hpcfast demo` resumes what was stopped, and trains anew what is finished or another's."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hpcfast.cli import app
from hpcfast.config import RunConfig
from hpcfast.distributed.comm import World


@pytest.mark.parametrize(
    ("found", "anew"),
    [
        (("none", "none"), [False, False]),
        (("unfinished", "none"), [False, False]),
        (("finished", "unfinished"), [False, False]),
        (("finished", "none"), [False, False]),
        (("finished", "finished"), [True, True]),
        (("other", "other"), [True, True]),
        (("finished", "other"), [False, True]),
    ],
)
def test_what_is_trained_anew(
    tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch, found: tuple[str, str], anew: list[bool]
) -> None:
    monkeypatch.chdir(tmp_path)
    states, done = dict(zip(("demo-standard", "demo-robust"), found, strict=True)), dict[str, bool]()
    monkeypatch.setattr("hpcfast.datasets.prepare.prepare", lambda *_: None)
    monkeypatch.setattr("hpcfast.training.claim.state", lambda run: states[run.name])
    monkeypatch.setattr("hpcfast.cli.report.command", lambda *_: None)

    def train(config: RunConfig, _: World, overwrite: bool) -> dict[str, Any]:
        done[config.name] = overwrite
        return {}

    monkeypatch.setattr("hpcfast.training.train.train", train)
    assert CliRunner().invoke(app, ["demo"]).exit_code == 0
    assert done == dict(zip(states, anew, strict=True))
