"""Staging over nodes: four ranks, which pass for two nodes."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.distributed.conftest import FORKED, WORKERS, Job, Playground

pytestmark = pytest.mark.distributed
NODES = ("node0", "node1")


def files(place: Path) -> dict[str, bytes]:
    return {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}


def opened(job: Job) -> list[str]:
    return sorted(re.findall(r"rank \d opens (\S+)", job.output))


@pytest.fixture(scope="module")
def pack(playground: Playground) -> Path:
    """A pack of five shards."""
    source, rng = playground.path / "noise", np.random.default_rng(0)
    for i in range(40):
        place = source / ("val" if i < 4 else "train") / f"class{i % 2}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (180, 200, 3), np.uint8)).save(place / f"{i}.png", compress_level=0)
    job = playground.hpcfast(0, "data", "pack", "noise", "pack", "--shard-mb", "1")
    assert job.code == 0, job.output
    assert "pack: 40 images in 5 shards, 4.4 MB, 0 left out" in job.output
    return playground.path / "pack"


def stage(playground: Playground, pack: Path, to: str, victim: str = "none", launcher: str = "mpirun") -> Job:
    worker = (str(WORKERS / "staging.py"), victim, str(pack), to, "--json", "staged.json")
    return playground.start(4, *worker, launcher=launcher)


def test_ranks_that_would_all_do_the_same_are_refused(playground: Playground, pack: Path) -> None:
    job = playground.hpcfast(2, "data", "pack", "noise", "other")
    assert (job.code, job.output.count("error: data pack is no job of several ranks")) == (2, 1), job.output


def test_a_killed_stage_goes_on_with_what_each_node_lacks(playground: Playground, pack: Path) -> None:
    killed = stage(playground, pack, "local/{node}/pack", victim="2")
    assert killed.code not in (0, 2), killed.output
    local = playground.path / "local"
    assert not (local / "node1" / "pack").exists()
    there = {node: files(local / node / "pack") | files(local / node / "pack.part") for node in NODES}

    job = stage(playground, pack, "local/{node}/pack", launcher=FORKED)
    assert job.code == 0, job.output
    sizes = {name: len(data) for name, data in files(pack).items() if name != "manifest.json"}
    lacked = [name for node in NODES for name in sizes if name not in there[node]]
    assert 0 < len(lacked) < 2 * len(sizes)
    assert opened(job) == sorted(lacked), "once by one rank of a node"
    numbers = json.loads((playground.path / "staged.json").read_text())
    assert numbers["bytes_read"] == sum(sizes[name] for name in lacked)
    assert (numbers["nodes"], numbers["bytes"]) == (list(NODES), sum(sizes.values()))
    for node in NODES:
        assert files(local / node / "pack") == files(pack)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of a megabyte."""
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)], check=False)
    if os.geteuid() or mounted.returncode:
        pytest.skip("only root may mount a disk")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_disk_that_is_too_small_is_refused_by_all(playground: Playground, pack: Path, small: Path) -> None:
    (playground.path / "disks").mkdir()
    (playground.path / "disks" / "node0").mkdir()
    (playground.path / "disks" / "node1").symlink_to(small)
    job = stage(playground, pack, "disks/{node}/pack")
    assert (job.code, job.output.count("error: ")) == (2, 1), job.output
    assert re.search(r"error: node node1: 4\.\d MB are needed in .*/pack.part, 1\.\d MB are free", job.output)
    assert len(opened(job)) == 10, "only the other node has read anything"
