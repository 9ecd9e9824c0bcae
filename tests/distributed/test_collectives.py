"""What Horovod is used for, on real ranks, over Gloo and over MPI."""

import re

import pytest

from tests.distributed.conftest import WORKERS, Job, Playground

pytestmark = pytest.mark.distributed
CHECKS = re.findall(r"^def (check_\w+)", (WORKERS / "collectives.py").read_text(), re.MULTILINE)


@pytest.fixture(scope="module", params=["gloo", "mpirun"])
def job(request: pytest.FixtureRequest, playground: Playground) -> Job:
    return playground.start(2, str(WORKERS / "collectives.py"), launcher=request.param)


@pytest.mark.parametrize("check", CHECKS)
def test_holds_on_both_ranks(job: Job, check: str) -> None:
    assert job.output.count(f"ok {check} on 2") == 2, job.output[-3000:]


def test_job_ends_well(job: Job) -> None:
    assert job.code == 0, job.output[-3000:]
