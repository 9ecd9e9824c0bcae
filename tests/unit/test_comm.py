"""A job of one rank: collectives that are the identity, errors that keep their kind."""

import os
from collections.abc import Callable

import pytest
import torch
from torch import nn

from hpcfast import comm
from hpcfast.comm import World
from hpcfast.errors import UserError

both = pytest.mark.parametrize("collective", [comm.together, comm.on_root])


def test_alone_the_world_is_one_rank(world: World) -> None:
    assert (world.rank, world.size, world.local_rank, world.is_root) == (0, 1, 0, True)
    assert 1 <= world.threads <= len(os.sched_getaffinity(0))
    assert comm.init() == world


def test_without_a_gpu_the_device_is_the_cpu(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert world.device == torch.device("cpu")


@pytest.mark.parametrize(("local_rank", "index"), [(0, 0), (3, 3), (5, 1)])
def test_each_rank_of_a_machine_has_its_own_gpu(local_rank: int, index: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert World(rank=9, size=16, local_rank=local_rank, threads=1).device == torch.device("cuda", index)


@both
def test_work_returns_its_result(collective: Callable[..., object], world: World) -> None:
    assert collective(lambda: {"a": 1}) == {"a": 1}
    assert collective(lambda: None) is None


@both
def test_a_users_error_stays_one(collective: Callable[..., object], world: World) -> None:
    def fail() -> None:
        raise UserError("the data set is not there")

    with pytest.raises(UserError, match="^the data set is not there$"):
        collective(fail)


@both
def test_a_bug_stays_a_bug(collective: Callable[..., object], world: World) -> None:
    with pytest.raises(ZeroDivisionError):
        collective(lambda: 1 // 0)


def test_alone_sums_and_means_change_nothing(world: World) -> None:
    counts = torch.tensor([2**53 + 1, 7])
    assert comm.total(counts).tolist() == [2**53 + 1, 7]
    model = nn.BatchNorm1d(3)
    model.running_mean = torch.tensor([1.0, 2.0, 3.0])
    comm.average_buffers(model)
    comm.broadcast_parameters(model)
    assert model.running_mean.tolist() == [1, 2, 3]
    comm.barrier()


@pytest.mark.parametrize("compression", ["none", "fp16"])
def test_a_distributed_optimizer_takes_the_plain_ones_step(compression: str, world: World) -> None:
    weights = []
    for wrap in (False, True):
        torch.manual_seed(0)
        model = nn.Linear(4, 2)
        optimizer: torch.optim.Optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
        if wrap:
            optimizer = comm.distribute(optimizer, model, compression)
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.ones(1, 4)).square().sum().backward()
            optimizer.step()
        weights.append(model.weight.detach())
    torch.testing.assert_close(*weights)
