"""Another user on the node can neither join, stop nor read a job that srun has started, nor keep it from its work."""

import os
import pwd
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from hpcfast.distributed.secret import VARIABLE
from tests.distributed.conftest import LIMIT, WORKERS, Playground

pytestmark = pytest.mark.distributed
SYSTEM_PYTHON = Path("/usr/bin/python3")  # another user may not read this one's
RANKS = 4
SHORT = "epochs=8", "evaluation.every=0", "guard.every=0"
NAMES = "alone", "beside"
KINDS = socket.SOCK_STREAM, socket.SOCK_DGRAM


def start(playground: Playground, name: str, engine: str) -> list[subprocess.Popen[str]]:
    """The ranks of a job as srun starts them on one node, without MPI."""
    step = {
        "SLURM_JOB_ID": str(os.getpid()), "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": str(RANKS), "SLURM_NODEID": "0",
        "SLURM_STEP_TASKS_PER_NODE": str(RANKS), "SLURM_STEP_NODELIST": "localhost",
        # tensors by themselves: of those that Horovod fuses, by chance, sums of four have another order
        "HOROVOD_FUSION_THRESHOLD": "0", VARIABLE: "secret of this job",
        "HPCFAST_ENGINE": engine, "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    command = [sys.executable, "-m", "hpcfast", "train", str(playground.config), f"name={name}", *SHORT]
    return [
        subprocess.Popen(
            command, cwd=playground.path, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, umask=0o077,
            env={**os.environ, **step, "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)},
        )
        for rank in range(RANKS)
    ]  # fmt: skip


def ended_well(ranks: list[subprocess.Popen[str]]) -> None:
    said = [rank.communicate(timeout=LIMIT)[0] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0] * RANKS, "\n".join(said)


@pytest.mark.skipif(os.geteuid() != 0 or not SYSTEM_PYTHON.exists(), reason="only root can be another user")
@pytest.mark.parametrize("engine", ["horovod", "torch"])
def test_a_stranger_gets_nothing_and_changes_nothing(playground: Playground, engine: str) -> None:
    ended_well(start(playground, f"alone-{engine}", engine))
    ranks = start(playground, f"beside-{engine}", engine)
    run = playground.path / "runs" / f"beside-{engine}"
    while not (run / "events.jsonl").exists() or not playground.values(f"beside-{engine}", "train_loss"):
        assert ranks[0].poll() is None, ranks[0].communicate()
        time.sleep(0.1)
    sockets = [each for rank in ranks for each in psutil.Process(rank.pid).net_connections("inet")]
    ports = {kind: {str(each.laddr.port) for each in sockets if each.type == kind and not each.raddr} for kind in KINDS}
    assert all(each.laddr.ip == "127.0.0.1" for each in sockets), "it listens where other machines can reach it"
    assert len(ports[socket.SOCK_STREAM]) > RANKS, "one each, and the table"
    pids = [str(rank.pid) for rank in ranks]
    stranger = subprocess.run(
        [SYSTEM_PYTHON, "-", run, *(",".join(each) for each in (*ports.values(), pids))],
        input=(WORKERS / "stranger.py").read_text(), check=False, text=True, capture_output=True, timeout=LIMIT,
        user=pwd.getpwnam("nobody").pw_uid, cwd="/",
    )  # fmt: skip
    ended_well(ranks)
    assert (stranger.returncode, stranger.stderr) == (0, "")
    assert stranger.stdout == ""
    weights = [(playground.path / "runs" / f"{name}-{engine}" / "model.safetensors").read_bytes() for name in NAMES]
    assert weights[0] == weights[1]
