"""A run is the same run on every engine; what an engine cannot do is refused."""

import re

import pytest

from hpcfast.runs.check import check
from tests.distributed.conftest import FORKED, TORCH, WORKERS, Playground
from tests.distributed.test_collectives import checks

pytestmark = pytest.mark.distributed


def weights(playground: Playground, name: str) -> bytes:
    return (playground.path / "runs" / name / "model.safetensors").read_bytes()


COLLECTIVES = str(WORKERS / "collectives.py")


@pytest.mark.parametrize(("launcher", "ranks"), [(FORKED, 0), (FORKED, 3), (TORCH, 1), (TORCH, 3), ("mpirun", 3)])
def test_collectives_hold_on_any_number_of_ranks(playground: Playground, launcher: str, ranks: int) -> None:
    job = playground.start(ranks, COLLECTIVES, launcher=launcher)
    assert job.code == 0, job.output[-3000:]
    assert job.output.count("ok ") == len(checks("collectives.py")) * max(ranks, 1)


@pytest.fixture(scope="module")
def by_horovod(playground: Playground) -> Playground:
    assert playground.train(2, "by-horovod").code == 0
    return playground


@pytest.mark.parametrize("setting", ["epochs=3", "accumulate=2", "allreduce.compression=fp16", "precision=bf16"])
def test_two_ranks_train_the_same_network_on_horovod_and_on_torch(playground: Playground, setting: str) -> None:
    """Sums of two terms have no order."""
    names = {launcher: f"on-{launcher}-{setting.partition('=')[0]}" for launcher in (FORKED, TORCH)}
    for launcher, name in names.items():
        job = playground.train(2, name, setting, launcher=launcher)
        assert job.code == 0, job.output[-3000:]
    one, other = (playground.values(name, "train_loss") for name in names.values())
    assert one == pytest.approx(other, abs=1e-6)
    assert weights(playground, names[FORKED]) == weights(playground, names[TORCH])


def test_one_rank_trains_the_same_network_on_every_engine(playground: Playground) -> None:
    jobs = {"single": (0, FORKED), "torch": (1, TORCH), "horovod": (1, FORKED)}
    for name, (ranks, launcher) in jobs.items():
        job = playground.train(ranks, f"one-{name}", launcher=launcher)
        assert job.code == 0, job.output[-3000:]
        said = check(playground.path / "runs" / f"one-{name}").summary["engine"]
        assert said["name"] == name
    assert len({weights(playground, f"one-{name}") for name in jobs}) == 1


def test_a_run_goes_on_on_another_engine(playground: Playground, by_horovod: Playground) -> None:
    command = ("train", str(playground.config), "name=moves")
    job = playground.start(2, str(WORKERS / "faulty_train.py"), "kill", "1", "1.5", *command)
    assert job.code != 0
    job = playground.hpcfast(2, *command, "engine=torch", launcher=TORCH)
    assert job.code == 0, job.output[-3000:]
    assert weights(playground, "moves") == weights(playground, "by-horovod")


@pytest.mark.parametrize("launcher", [TORCH, "torchrun"])
@pytest.mark.parametrize("rank", [0, 1])
def test_a_dead_rank_of_torch_ends_the_job(playground: Playground, launcher: str, rank: int) -> None:
    command = ("train", str(playground.config), f"name=dead-{launcher}-{rank}")
    job = playground.start(2, str(WORKERS / "faulty_train.py"), "kill", str(rank), "1", *command, launcher=launcher)
    assert job.code != 0
    assert f"rank {1 - rank}: stopped, because another rank failed" in job.output, job.output[-3000:]
    assert re.search(rf"rank {rank} on host \S+ \(pid \d+, step \d+", job.output), job.output[-3000:]


@pytest.mark.parametrize(
    ("launcher", "ranks", "setting", "said"),
    [
        (FORKED, 2, "engine=torch", "engine: torch needs ranks that torchrun"),
        (FORKED, 2, "engine=single", "engine: single is for one process, and a launcher has started 2 ranks"),
        (FORKED, 0, "engine=nccl", "'nccl' is no engine; choose from auto, horovod, torch, single"),
        (TORCH, 2, "allreduce.op=adasum", "allreduce.op: adasum is Horovod's"),
    ],
)
def test_what_an_engine_cannot_do_is_one_message(
    playground: Playground, launcher: str, ranks: int, setting: str, said: str
) -> None:
    job = playground.train(ranks, "refused", setting, launcher=launcher)
    assert job.code == 2, job.output
    assert job.output.count("error: ") == 1, job.output
    assert said in job.output


def test_ranks_by_two_launchers_are_refused(playground: Playground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOROVOD_RANK", "1")
    job = playground.train(1, "refused", launcher=TORCH)
    assert job.code == 2, job.output
    assert "this is rank 1 by HOROVOD_RANK and rank 0 by torchrun's RANK" in job.output
