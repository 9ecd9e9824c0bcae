"""``hpcfast train --elastic``: a rank is killed, and the others go on without it."""

import json
from collections import Counter
from pathlib import Path

import pytest

from hpcfast.runs.check import check
from tests.distributed.conftest import LAUNCHERS, WORKERS, Playground

pytestmark = pytest.mark.distributed


@pytest.fixture
def two_hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A launcher for two "hosts", both this machine: Horovod gives up a host that it has lost a rank on."""
    script = tmp_path / "hosts"
    script.write_text("#!/bin/sh\necho localhost:1\necho 127.0.0.1:1\n")
    script.chmod(0o755)
    options = ["--gloo", "--min-np", "1", "--max-np", "2", "--host-discovery-script", str(script)]
    monkeypatch.setitem(LAUNCHERS, "elastic", ["horovodrun", *options, "--network-interfaces", "lo", "-np"])


@pytest.mark.usefixtures("two_hosts")
def test_the_others_go_on_from_the_last_checkpoint(playground: Playground) -> None:
    command = ("train", str(playground.config), "name=elastic", "--elastic")
    job = playground.start(2, str(WORKERS / "faulty_train.py"), "kill", "1", "1.5", *command, launcher="elastic")
    assert job.code == 0, job.output
    assert "now on 1 ranks instead of 2" in job.output
    run = playground.path / "runs" / "elastic"
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["status"], summary["world_size"]) == ("finished", 1)
    seen = [json.loads(line) for rank in (0, 1) for line in (run / f"seen-{rank}.jsonl").read_text().splitlines()]
    counts = Counter(number for step in seen if step["epoch"] == 2 for number in step["ids"])
    assert len(counts) == 48
    assert set(counts.values()) == {1}, "in the epoch after the loss the one rank that is left reads each image once"
    assert str(check(run)).startswith(f"{run}: sound: 3 epochs"), "its log can be believed, too"


def test_a_job_that_was_not_started_elastically_is_refused(playground: Playground) -> None:
    job = playground.train(0, "stiff", "--elastic")
    assert job.code == 2, job.output
    assert "horovodrun --min-np N --host-discovery-script FILE" in job.output
