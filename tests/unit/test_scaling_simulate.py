"""Failures, checkpoints, requeues: against arithmetic where nothing is random, against Daly's formula where it is."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hpcfast.cli.scaling import app
from hpcfast.errors import UserError
from hpcfast.scaling.predict import simulate
from hpcfast.scaling.predict.simulate import Job

SAFE = Job(nodes=4, work=1000, mtbf=math.inf, checkpoint=10, restart=30)
YEARS = 365 * 86400.0


@pytest.mark.parametrize(("interval", "seconds"), [(100, 1100), (300, 1040), (1000, 1010)])
def test_without_failures_a_run_is_its_work_and_its_checkpoints(interval: float, seconds: float) -> None:
    found = simulate.run(SAFE, interval, repetitions=3)
    assert found.times.tolist() == [seconds] * 3
    assert (found.failures, found.error) == (0, 0)


def test_a_time_limit_costs_checkpoints_queues_and_restarts_by_hand() -> None:
    # 450 s of work in the first job, 420 s in the second, 130 s with two checkpoints in the third
    found = simulate.run(replace(SAFE, queue=100, limit=500), 100, repetitions=2)
    assert found.times.tolist() == [500 + 100 + 500 + 100 + 30 + 130 + 20] * 2


@pytest.mark.parametrize("nodes", [1, 64, 1024, 4096, 16384])
def test_the_mean_is_dalys(nodes: int) -> None:
    job = Job(nodes, work=86400, mtbf=5 * YEARS, checkpoint=60, restart=300)
    pieces = max(1, round(job.work / simulate.daly(60, job.failing)))
    found = simulate.run(job, job.work / pieces, repetitions=4000)
    assert abs(found.mean - simulate.expected(job, job.work / pieces)) < 4 * found.error


def test_the_best_interval_is_near_dalys_and_youngs() -> None:
    job = Job(4096, work=7 * 86400, mtbf=5 * YEARS, checkpoint=60, restart=300)
    found = simulate.best(job, repetitions=400)
    assert 0.5 < found.interval / simulate.daly(60, job.failing) < 2
    for factor in (0.1, 10):
        assert simulate.run(job, found.interval * factor, 400).mean > found.mean
    assert simulate.daly(60, job.failing) == pytest.approx(simulate.young(60, job.failing), rel=0.05)


def test_a_requeue_costs_its_queue_at_each_failure() -> None:
    job = Job(1024, work=86400, mtbf=YEARS, checkpoint=30, restart=60)
    quick, slow = (simulate.run(replace(job, queue=queue), 3600, 200) for queue in (0, 1000))
    assert slow.mean - quick.mean == pytest.approx(1000 * quick.failures)
    assert quick.failures > 0


def test_a_simulation_repeats_and_another_seed_differs() -> None:
    job = Job(1024, work=86400, mtbf=YEARS, checkpoint=30, restart=60)
    first, again, other = (simulate.run(job, 3600, 50, seed).mean for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize(
    ("job", "words"),
    [
        (replace(SAFE, limit=40), "no time to work"),
        (Job(100_000, work=1e5, mtbf=86400, checkpoint=60, restart=300), "would not end"),
    ],
)
def test_a_run_that_cannot_end_is_refused(job: Job, words: str) -> None:
    with pytest.raises(UserError, match=words):
        simulate.best(job)


def test_the_command_goes_beyond_4096_nodes(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    options = ["--mtbf", "40000", "--checkpoint", "30", "--nodes", "1024..16384", "--repetitions", "50"]
    done = CliRunner().invoke(app, ["simulate", "--work", "200000", *options, "--json", str(out)])
    assert done.exit_code == 0, done.output
    (rows,) = json.loads(out.read_text())["simulated"].values()
    assert [row["nodes"] for row in rows] == [1024, 2048, 4096, 8192, 16384]
    assert all(row["mean"] > row["work"] for row in rows)


def test_the_command_needs_work() -> None:
    done = CliRunner().invoke(app, ["simulate", "--mtbf", "40000", "--checkpoint", "30"])
    assert isinstance(done.exception, UserError)
    assert "--work" in str(done.exception)
