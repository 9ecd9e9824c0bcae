"""A job that cannot go on ends at once: one message for a user's error, the first traceback for a fault."""

import contextlib
import os
import re
import select
import shutil
import socket

import pytest

from hpcfast.distributed.comm import EXIT_LOST
from hpcfast.runs.events import read
from tests.distributed.conftest import FORKED, WORKERS, Playground

pytestmark = pytest.mark.distributed


@pytest.mark.parametrize(("launcher", "rank"), [("gloo", 1), ("mpirun", 0), (FORKED, 0), (FORKED, 1)])
def test_a_failing_rank_ends_the_job_with_its_traceback(playground: Playground, launcher: str, rank: int) -> None:
    job = playground.start(
        2, str(WORKERS / "faulty_train.py"), "raise", str(rank), "1", "train", str(playground.config),
        f"name=fault-{launcher}-{rank}", launcher=launcher,
    )  # fmt: skip
    assert job.code not in (0, 2)
    assert f"rank {rank} failed:" in job.output
    assert "a fault made by the test" in job.output
    assert "faulty_train.py" in job.output, "the traceback shows where"
    assert f"rank {1 - rank} failed:" not in job.output
    last = read(playground.path / "runs" / f"fault-{launcher}-{rank}" / "events.jsonl")[-1]
    if launcher != "mpirun":  # which kills the other ranks at once
        assert last["key"] == "run_aborted"
        assert (last["value"]["why"] == "a fault made by the test") == (rank == 0)


@pytest.mark.parametrize(
    ("launcher", "setting", "message"),
    [
        ("mpirun", "threat.eps=-1", "threat.eps: input should be greater than 0 (got -1)"),
        (FORKED, "data.path=nowhere", "no folder nowhere/train"),
        (
            FORKED,
            "data.batch_size=100",
            "has 48 images to train on, fewer than one global batch of 100 images x 2 ranks",
        ),
        (FORKED, "model.name=resnt50", "did you mean 'resnet50'?"),
        (FORKED, "runs=tiny.yaml", "cannot write the run directory"),
    ],
)
def test_a_users_error_is_told_once_and_exits_2(
    playground: Playground, launcher: str, setting: str, message: str
) -> None:
    job = playground.train(2, "wrong", setting, launcher=launcher)
    assert job.code == 2, job.output
    assert job.output.count("error: ") == 1, job.output
    assert job.output.count(message) == 1, job.output
    assert "Traceback" not in job.output


def test_fewer_images_to_evaluate_than_ranks_is_refused(playground: Playground) -> None:
    job = playground.train(2, "few", "evaluation.final.images=1", "epochs=2")
    assert job.code == 2, job.output
    assert job.output.count("1 images to evaluate on 2 ranks; use fewer ranks") == 1


def test_a_checkpoint_of_another_model_is_refused_on_every_rank(playground: Playground) -> None:
    for name, width in (("narrow", 4), ("wide", 6)):
        command = ("train", str(playground.config), f"name={name}", f"model.options.width={width}")
        playground.start(2, str(WORKERS / "faulty_train.py"), "kill", "0", "1", *command)
    runs = playground.path / "runs"
    shutil.rmtree(runs / "wide" / "checkpoints")
    shutil.copytree(runs / "narrow" / "checkpoints", runs / "wide" / "checkpoints")
    job = playground.hpcfast(2, *command)
    assert job.code == 2, job.output
    assert job.output.count("holds the weights of another model") == 1


@pytest.mark.parametrize(("launcher", "rank"), [("gloo", 0), (FORKED, 1), ("mpirun", 1)])
def test_a_stopped_rank_is_named_and_its_job_ends(
    playground: Playground, launcher: str, rank: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HPCFAST_STALL_SECONDS", "6")
    job = playground.start(2, str(WORKERS / "stopped.py"), str(rank), launcher=launcher)
    assert job.code == {"gloo": 1}.get(launcher, EXIT_LOST), job.output
    (pid,) = re.findall(rf"rank {rank} of pid (\d+) stops", job.output)
    verdicts = re.findall(r"rank \d+ on host .* has been silent for \d+ s", job.output)
    assert len(verdicts) == 1, job.output
    assert verdicts[0].startswith(f"rank {rank} on host {socket.gethostname()} (pid {pid}, step ")
    with contextlib.suppress(ProcessLookupError):
        assert select.select([os.pidfd_open(int(pid))], [], [], 20)[0], "the launcher has left it behind"
