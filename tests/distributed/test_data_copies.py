"""Data that differ between nodes are refused before the first step; ranks that lose step with one another are ended."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from hpcfast.distributed.comm import EXIT_LOST
from tests.distributed.conftest import FORKED, WORKERS, Job, Playground

pytestmark = pytest.mark.distributed


@pytest.fixture
def on_nodes(playground: Playground, tmp_path: Path) -> Callable[..., Job]:
    """Call it with a change of the second node's copy of the data, and a command, to get how that ended."""

    def start(change: Callable[[Path], object], *command: str) -> Job:
        nodes = [tmp_path / f"node-{rank}" for rank in range(3)]
        for node in nodes:
            node.mkdir()
            shutil.copytree(playground.path / "data", node / "data")
        change(nodes[1] / "data")
        shared = (f"runs={tmp_path / 'runs'}",) if command[0] == "train" else ()
        return Playground(tmp_path).start(3, str(WORKERS / "on_nodes.py"), *command, *shared)

    return start


def repaint(data: Path) -> None:
    file = data / "val" / "1" / "3.png"
    size = file.stat().st_size
    Image.new("L", (8, 8), 9).save(file)
    file.write_bytes(file.read_bytes().ljust(size, b"\0"))


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a validation image missing": (
        lambda data: (data / "val" / "1" / "3.png").unlink(),
        "data/val is not the same on all hosts: on node-1, class 1 has 6 images instead of 7, compared with node-0",
    ),
    "training images missing": (
        lambda data: [file.unlink() for file in (data / "train" / "2").glob("1*.png")],
        "data/train is not the same on all hosts: on node-1, class 2 has 11 images instead of 20, compared with node-0",
    ),
    "a class renamed": (
        lambda data: [(data / split / "0").rename(data / split / "x") for split in ("train", "val")],
        "on node-1, class 0 is missing; class x is new, compared with node-0",
    ),
    "other pixels": (repaint, "on node-1, images of the same names and sizes have other content, compared with node-0"),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_training_names_the_node_whose_data_differ(
    playground: Playground, on_nodes: Callable[..., Job], kind: str
) -> None:
    change, message = CHANGES[kind]
    job = on_nodes(change, "train", str(playground.config), "data.path=data")
    assert job.code == 2, job.output
    assert job.output.count(message) == 1, job.output
    assert job.output.count("error: ") == 1


def test_equal_copies_are_trained_on(playground: Playground, on_nodes: Callable[..., Job]) -> None:
    job = on_nodes(lambda data: None, "train", str(playground.config), "data.path=data", "epochs=2", "data.held_out=3")
    assert job.code == 0, job.output


def test_evaluation_names_the_node_whose_data_differ(playground: Playground, on_nodes: Callable[..., Job]) -> None:
    assert playground.train(1, "judged", "epochs=2").code == 0
    change, message = CHANGES["a validation image missing"]
    job = on_nodes(change, "eval", str(playground.path / "runs" / "judged"), "data.path=data")
    assert job.code == 2, job.output
    assert job.output.count(message) == 1, job.output


@pytest.mark.parametrize("launcher", [FORKED, "mpirun"])
def test_ranks_that_wait_for_one_another_at_different_places_are_ended(
    playground: Playground, launcher: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HPCFAST_STALL_SECONDS", "3")
    job = playground.start(2, str(WORKERS / "out_of_step.py"), launcher=launcher)
    assert job.code == EXIT_LOST, job.output
    assert job.output.count("all ranks have waited for one another for 3 s, and not at the same place") == 1
    for rank, place in enumerate(("gather", "total")):
        assert f"rank {rank} on host " in job.output
        assert f"step {19 + rank}, training) in '{place}'" in job.output
