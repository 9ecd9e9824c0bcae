"""Three minutes of campaigns/chaos: whatever happens to a job, its run ends as one that nothing happened to."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.slurm.conftest import ROOT

pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.timeout(1200)]
KINDS = (
    "rank killed", "rank stopped", "TERM", "node lost", "disk full", "half a checkpoint", "two nodes parted",
    "no number on a rank",
)  # fmt: skip


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can do this to nodes, networks and disks")
def test_three_minutes_of_faults_change_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "campaigns.chaos", "--minutes", "3", "--every", "20", "--out", tmp_path / "chaos"]
    done = subprocess.run([*command, "--kinds", *KINDS], cwd=ROOT, text=True, capture_output=True, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
