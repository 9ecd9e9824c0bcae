"""Runs that are killed at random moments end as one that nothing interrupted: a few kills of the campaign's."""

import json
from pathlib import Path

import pytest

from tests.distributed.conftest import PLAIN, Playground

pytestmark = [pytest.mark.distributed, pytest.mark.slow]
SCRIPT = Path(__file__).parents[2] / "campaigns" / "kill_trainings.py"


def test_killed_runs_end_as_if_nothing_had_happened(playground: Playground) -> None:
    job = playground.start(0, str(SCRIPT), "--kills", "6", "--launched", "0", "--json", "kills.json", launcher=PLAIN)
    assert job.code == 0, job.output
    report = json.loads((playground.path / "kills.json").read_text())
    assert report["wrong"] == []
    assert len(report["kills"]) == 6
    early = [kill for kill in report["kills"] if kill["doing"] != "end"]
    assert all(any(kill["codes"]) for kill in early), "a job that was killed ended well"
