"""A job of one rank: collectives that are the identity, errors that keep their kind."""

import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hpcfast.distributed import comm, joined, machine
from hpcfast.distributed.comm import World
from hpcfast.distributed.engines import elastic, horovod
from hpcfast.distributed.settings import AllreduceSettings
from hpcfast.errors import UserError

HERE = socket.gethostname()
both = pytest.mark.parametrize("collective", [comm.raise_on_all_ranks, comm.on_root])


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


def test_gpus_that_slurm_has_given_and_torch_does_not_see_are_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    machine.see_gpus()
    monkeypatch.setenv("SLURM_GPUS_ON_NODE", "2")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    with pytest.raises(UserError, match=r"given this job 2 GPUs on .* sees none: its driver .* --gpus-per-node=0"):
        machine.see_gpus()
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(UserError, match="built for CPUs"):
        machine.see_gpus()


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
    comm.average_buffers(model)()
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
            distributed = comm.distribute(optimizer, model, AllreduceSettings(compression=compression))
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.ones(1, 4)).square().sum().backward()
            (distributed if wrap else optimizer).step()
        weights.append(model.weight.detach())
    torch.testing.assert_close(*weights)


@pytest.mark.parametrize("compression", ["none", "fp16"])
@pytest.mark.parametrize("shape", [(4, 3, 2, 2), (4, 1, 1, 1), (1, 3, 3, 3), (5, 3), (7,)])
def test_what_is_sent_is_contiguous_and_comes_back_as_it_was(shape: tuple[int, ...], compression: str) -> None:
    wire = horovod.HalfWire if compression == "fp16" else horovod.Wire
    tensor = torch.arange(float(torch.Size(shape).numel())).view(shape)
    if len(shape) == 4:
        tensor = tensor.to(memory_format=torch.channels_last)
    sent, context = wire.compress(tensor)
    received = wire.decompress(sent, context)
    assert sent.is_contiguous()
    assert sent.dtype == (torch.float16 if compression == "fp16" else torch.float32)
    assert torch.equal(received, tensor), "these numbers are exact in half precision"
    assert received.stride() == tensor.stride()


def test_uncompressed_gradients_are_sent_without_a_copy() -> None:
    tensor = torch.zeros(4, 3, 2, 2).to(memory_format=torch.channels_last)
    assert horovod.Wire.compress(tensor)[0].data_ptr() == tensor.data_ptr()


@pytest.mark.parametrize(
    ("others", "fair", "all_of_them"),
    [
        pytest.param([], 4, 4, id="alone"),
        pytest.param([("elsewhere", [0, 1])], 4, 4, id="alone on this machine"),
        pytest.param([(HERE, [8, 9])], 4, 6, id="each has its own, as with srun"),
        pytest.param([(HERE, [0, 1, 2, 3])], 2, 4, id="both have all, as with horovodrun"),
        pytest.param([(HERE, [0])] * 2, 3, 4, id="one is shared"),
        pytest.param([(HERE, [0, 1, 2, 3])] * 300, 1, 4, id="more ranks than cores"),
    ],
)
def test_a_rank_takes_its_share_of_the_cores(others: list[tuple[str, list[int]]], fair: int, all_of_them: int) -> None:
    mine = [0, 1, 2, 3]
    assert machine.shares(mine, [(HERE, mine), *others]) == (fair, all_of_them)


def test_a_broadcast_keeps_weights_and_their_layout(world: World) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 2), nn.BatchNorm2d(4)).to(memory_format=torch.channels_last)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    comm.broadcast_parameters(model)
    assert model[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_votes_are_counted_at_the_next_call(world: World) -> None:
    vote = comm.Vote()
    assert vote.count() == []
    assert vote.cast(True, False, True) == [0, 0, 0]
    assert vote.cast(False, True, False) == [1, 0, 1]
    assert vote.count() == [0, 1, 0]
    assert vote.count() == [], "each vote counts once"
    assert vote.cast(True, True, True) == [0, 0, 0]
    assert vote.count() == [1, 1, 1]


def test_who_waits_for_gradients_lets_others_work(monkeypatch: pytest.MonkeyPatch) -> None:
    answers, pauses = [False, False, True], []
    monkeypatch.setattr(horovod.hvd, "poll", lambda handle: answers.pop(0))
    monkeypatch.setattr(horovod.time, "sleep", pauses.append)
    horovod.rest(7)
    assert (answers, pauses) == ([], [horovod.PAUSE] * 2)


def test_gradients_of_several_passes_are_added_up(world: World) -> None:
    weights = []
    for passes in (1, 2):
        torch.manual_seed(0)
        model = nn.Linear(4, 2)
        plain: torch.optim.Optimizer = torch.optim.SGD(model.parameters(), 0.1)
        distributed = comm.distribute(plain, model, AllreduceSettings(), passes=passes)
        for _ in range(2):
            distributed.optimizer.zero_grad()
            for x in torch.eye(4).split(4 // passes):
                model(x).square().sum().backward()
            distributed.step()
        weights.append(model.weight.detach())
    torch.testing.assert_close(*weights)


@pytest.mark.parametrize(("gpu", "own", "expected"), [(False, None, "20.0"), (True, None, None), (False, "2", "2")])
def test_on_cpus_horovod_looks_less_often_unless_told(
    gpu: bool, own: str | None, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    environment = {} if own is None else {"HOROVOD_CYCLE_TIME": own}
    monkeypatch.setattr(os, "environ", environment)
    horovod.slow_down()
    assert environment.get("HOROVOD_CYCLE_TIME") == expected


def test_elastic_jobs_look_less_often_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(os, "environ", environment := {"HOROVOD_ELASTIC": "1"})
    monkeypatch.setattr(elastic.hvd, "init", lambda: None)
    monkeypatch.setattr(elastic.ElasticHorovod, "look", lambda self: None)
    monkeypatch.setattr(elastic, "_Members", lambda: None)
    monkeypatch.setattr(elastic.hvd.elastic, "run", lambda work: work)
    monkeypatch.setattr(joined, "_engine", None)
    monkeypatch.setattr(joined, "_choice", None)
    assert comm.elastically(lambda: environment["HOROVOD_CYCLE_TIME"]) == "20.0"


@both
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_one_message(collective: Callable[..., Any], number: int, world: World) -> None:
    def write() -> None:
        raise OSError(number, os.strerror(number), "runs/a/config.yaml")

    with pytest.raises(UserError, match="runs/a/config.yaml': the disk is full.* Make room and give the same command"):
        collective(write)


@both
def test_other_errors_of_a_disk_are_faults(collective: Callable[..., Any], world: World) -> None:
    with pytest.raises(FileNotFoundError):
        collective(Path("nowhere").read_text)
