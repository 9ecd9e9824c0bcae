"""docs/cluster.md: its lines, submitted on a small cluster with less work to do."""

import shlex
from pathlib import Path

import pytest

from tests.slurm.conftest import PHASES, SMALL, Cluster, pages

pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(900)]
HERE = ["--nodes=2", "--ntasks-per-node=1", "--gpus-per-node=0", "--cpus-per-task=1"]


def small(line: str) -> list[str]:
    """The words of ``line``, for nodes without GPUs and minutes instead of days."""
    words = shlex.split(line)
    script = next(number for number, word in enumerate(words) if word.startswith("slurm/"))
    if "evaluate" in line:
        attack = [] if "--attack" in words else ["--attack", "autoattack"]
        less = [*attack, "--images", "2"]
    else:
        less = [*SMALL, *([PHASES] if "imagenet_l" in line else [])]
    return ["sbatch", "--parsable", *words[1:script], *HERE, *words[script:], *less]


def test_every_job_of_the_page_completes(cluster: Cluster, imagenet: Path) -> None:
    cluster.run("hpcfast", "data", "prepare", "digits")
    cluster.run("hpcfast", "data", "pack", str(imagenet), f"{imagenet}-packed")
    for line in pages():
        if "stage" in line and not cluster.networks:
            continue  # no node has a disk of its own
        job = cluster.run(*small(line)).strip()
        assert cluster.end(job) == "COMPLETED 0:0", f"{line}\n{cluster.log(job)}"
        assert "== done; numbers in " in cluster.log(job)
