"""docs/cluster.md: its lines, submitted on a small cluster with less work to do."""

import shlex
from pathlib import Path

import pytest

from tests.slurm.conftest import PHASES, SMALL, Cluster, pages

pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(900)]
HERE = ["--nodes=2", "--ntasks-per-node=1", "--gpus-per-node=0", "--cpus-per-task=1"]


def small(line: str) -> tuple[list[str], dict[str, str]]:
    """The words and the variables of ``line``, for nodes without GPUs and minutes instead of days."""
    words = shlex.split(line)
    start = words.index("sbatch")
    variables = dict(word.split("=", 1) for word in words[:start])
    short = (*SMALL, PHASES) if "imagenet_l" in line or "stage" in line else SMALL
    variables["OVERRIDES"] = " ".join((variables.get("OVERRIDES", ""), *short))
    if "evaluate" in line:
        variables["OPTIONS"] = variables.get("OPTIONS", "--attack autoattack") + " --images 2"
    return ["sbatch", "--parsable", *words[start + 1 : -1], *HERE, words[-1]], variables


def test_every_job_of_the_page_completes(cluster: Cluster, imagenet: Path) -> None:
    cluster.run("hpcfast", "data", "prepare", "digits")
    cluster.run("hpcfast", "data", "pack", str(imagenet), f"{imagenet}-packed")
    for line in pages():
        if "stage" in line and not cluster.networks:
            continue  # no node has a disk of its own
        words, variables = small(line)
        job = cluster.run(*words, **variables).strip()
        assert cluster.end(job) == "COMPLETED 0:0", f"{line}\n{cluster.log(job)}"
        assert "== done; numbers in " in cluster.log(job)
