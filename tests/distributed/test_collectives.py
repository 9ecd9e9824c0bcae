"""What engines are used for, on real ranks: Horovod over Gloo and over MPI, and torch."""

import re

import pytest

from tests.distributed.conftest import FORKED, TORCH, WORKERS, Job, Playground

pytestmark = pytest.mark.distributed


def checks(worker: str) -> list[str]:
    return re.findall(r"^def (check_\w+)", (WORKERS / worker).read_text(), re.MULTILINE)


@pytest.fixture(scope="module", params=[FORKED, "mpirun", TORCH])
def collectives(request: pytest.FixtureRequest, playground: Playground) -> Job:
    return playground.start(2, str(WORKERS / "collectives.py"), launcher=request.param)


@pytest.fixture(scope="module", params=[FORKED, TORCH])
def learning(request: pytest.FixtureRequest, playground: Playground) -> Job:
    return playground.start(2, str(WORKERS / "learning.py"), launcher=request.param)


@pytest.mark.parametrize("check", checks("collectives.py"))
def test_holds_on_both_ranks(collectives: Job, check: str) -> None:
    assert collectives.output.count(f"ok {check} on 2") == 2, collectives.output[-3000:]


@pytest.mark.parametrize("check", checks("learning.py"))
def test_holds_for_steps_of_training(learning: Job, check: str) -> None:
    assert learning.output.count(f"ok {check} on 2") == 2, learning.output[-3000:]


def test_jobs_end_well(collectives: Job, learning: Job) -> None:
    assert (collectives.code, learning.code) == (0, 0), collectives.output[-3000:] + learning.output[-3000:]


def test_a_rank_that_waits_does_not_wait_for_horovods_next_look(playground: Playground) -> None:
    job = playground.start(2, str(WORKERS / "looks.py"), "awaited")
    assert (job.code, job.output.count("ok awaited")) == (0, 2), job.output[-3000:]


def test_horovod_rests_while_ranks_send_nothing(playground: Playground) -> None:
    job = playground.start(2, str(WORKERS / "looks.py"), "idle", str(playground.path / "looks.json"))
    (looks,) = map(int, re.findall(r"looks (\d+)", job.output))
    assert 2 < looks < 50, "in two seconds; with a cycle of a millisecond it was 1,700"
