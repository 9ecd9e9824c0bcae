"""docs/cluster.md: its lines, submitted on a cluster as sites are, with less work to do."""

import shlex

import pytest

from tests.slurm.conftest import PHASES, SMALL, Cluster, make_imagenet, pages

pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(900)]
HERE = ["--nodes=2", "--ntasks-per-node=1", "--gpus-per-node=0", "--cpus-per-task=1"]


def small(line: str, flags: tuple[str, ...]) -> list[str]:
    """The words of ``line``, for nodes without GPUs and minutes instead of days."""
    words = shlex.split(line)
    script = next(number for number, word in enumerate(words) if word.startswith("slurm/"))
    if "evaluate" in line:
        attack = [] if "--attack" in words else ["--attack", "autoattack"]
        less = [*attack, "--images", "2"]
    else:
        less = [*SMALL, *([PHASES] if "imagenet_l" in line else [])]
    options = [word for word in words[1:script] if not word.startswith("--gres")]
    return ["sbatch", "--parsable", *options, *HERE, *flags, *words[script:], *less]


def test_every_job_of_the_page_completes(strange: Cluster) -> None:
    imagenet = make_imagenet(strange)
    strange.run("hpcfast", "data", "prepare", "digits")
    strange.run("hpcfast", "data", "pack", str(imagenet), f"{imagenet}-packed")
    assert pages()
    for line in pages():
        job = strange.run(*small(line, strange.flags)).strip()
        assert strange.end(job) == "COMPLETED 0:0", f"{line}\n{strange.log(job)}"
        assert "== done; numbers in " in strange.log(job)
