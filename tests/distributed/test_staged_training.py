"""``data.stage`` on four ranks, which pass for two nodes with a disk each."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.distributed.conftest import FORKED, WORKERS, Job, Playground

pytestmark = pytest.mark.distributed
FILES = [f"{split}/shard-000000.{kind}" for split in ("train", "val") for kind in ("npy", "tar")]
Start = Callable[..., Job]


@pytest.fixture(scope="module")
def pack(playground: Playground) -> Path:
    job = playground.hpcfast(0, "data", "pack", "data", "pack-to-stage")
    assert job.code == 0, job.output
    return playground.path / "pack-to-stage"


@pytest.fixture
def start(playground: Playground, pack: Path, tmp_path: Path) -> Start:
    """Call it with what shall happen, and what the nodes' disks are called."""

    def run(kind: str, disks: str, launcher: str = FORKED) -> Job:
        words = (str(WORKERS / "staged_train.py"), kind, str(pack), disks, "train", str(playground.config))
        settings = (f"data.path={pack}", "data.stage=$DISK", f"runs={tmp_path / 'runs'}")
        return Playground(tmp_path).start(4, *words, *settings, launcher=launcher)

    return run


def opened(job: Job) -> list[str]:
    return sorted(re.findall(r"rank \d opens (\S+)", job.output))


def half_copied(place: Path, disks: str) -> Path:
    return place / disks / "node1" / f"hpcfast-{os.getuid()}" / "pack-to-stage.part"


def test_a_job_goes_on_on_whatever_disks_it_gets(start: Start, pack: Path, tmp_path: Path) -> None:
    stopped = start("copying", "first")
    assert stopped.code == 75, stopped.output
    assert stopped.output.count("SIGTERM: stopped; what is done is kept, and the same command resumes\n") == 1
    assert "Traceback" not in stopped.output
    assert not (tmp_path / "runs").exists()
    assert len([*half_copied(tmp_path, "first").glob("train/shard-*")]) == 2

    there = [str(file.relative_to(tmp_path)) for file in tmp_path.glob("first/**/shard-000000.*[rpy]")]
    stopped = start("training", "first")
    assert stopped.code == 75, stopped.output
    assert "tiny stopped at step" in stopped.output
    lacked = [name for node in ("node0", "node1") for name in FILES if not any(node in t and name in t for t in there)]
    assert opened(stopped) == sorted(lacked), "once by one rank of a node, to copy it"

    done = start("none", "second")
    assert done.code == 0, done.output
    assert "going on with" in done.output
    assert " MB on 2 nodes" in done.output
    assert opened(done) == sorted(2 * FILES)
    config = yaml.safe_load((tmp_path / "runs" / "tiny" / "config.yaml").read_text())
    assert (config["data"]["path"], config["data"]["stage"]) == (str(pack), "$DISK")

    again = start("none", "third")
    assert again.code == 0, again.output
    assert "is finished already" in again.output
    assert not (tmp_path / "third").exists()


def test_a_stop_while_it_copies_is_an_orderly_end_under_mpirun(start: Start, tmp_path: Path) -> None:
    stopped = start("copying", "first", launcher="mpirun")
    assert stopped.code == 75, stopped.output
    assert stopped.output.count("SIGTERM: stopped; what is done is kept, and the same command resumes\n") == 1
    assert half_copied(tmp_path, "first").is_dir()


def test_a_node_without_the_variable_is_named_once(start: Start) -> None:
    job = start("unset", "first")
    assert job.code == 2, job.output
    assert job.output.count("error: data.stage: $DISK: DISK is not set on node node1; set it in the job, or") == 1
    assert job.output.count("error: ") == 1
