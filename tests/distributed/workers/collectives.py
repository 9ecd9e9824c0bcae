"""Runs on every rank of a job; prints ``ok NAME`` for each check that held on this rank."""

import copy

import pytest
import torch
import torch.nn.functional as F
from counting import counting
from torch import nn

from hpcfast.attacks.fgsm_rs import FgsmRs
from hpcfast.attacks.norms import L2
from hpcfast.attacks.pgd import Pgd
from hpcfast.distributed import comm
from hpcfast.distributed.engines import Distributed
from hpcfast.distributed.settings import AllreduceSettings
from hpcfast.errors import UserError
from hpcfast.models import ModelSettings


def model_and_images() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """The same on every rank; BatchNorm in eval mode, so that images do not see one another."""
    torch.manual_seed(0)
    model = ModelSettings(name="cifar_resnet8", options={"width": 4}, mean=(0.5,), std=(0.25,)).build(5).eval()
    return model, torch.rand(4 * world.size, 1, 12, 12), torch.arange(4 * world.size) % 5


def step(model: nn.Module, distributed: Distributed, x: torch.Tensor, y: torch.Tensor) -> None:
    distributed.optimizer.zero_grad()
    F.cross_entropy(model(x), y).backward()
    distributed.step()


def check_gradient_equals_the_joined_batchs() -> None:
    model, x, y = model_and_images()
    joined = copy.deepcopy(model)
    mine = slice(4 * world.rank, 4 * world.rank + 4)
    distributed = comm.distribute(torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9), model, AllreduceSettings())
    reference = Distributed(torch.optim.SGD(joined.parameters(), lr=0.5, momentum=0.9), lambda: None)
    for _ in range(3):
        step(model, distributed, x[mine], y[mine])
        step(joined, reference, x, y)
    for (name, a), b in zip(model.named_parameters(), joined.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5, msg=lambda m, name=name: f"{name}: {m}")


def check_the_sum_of_divided_losses_is_the_mean() -> None:
    model, x, y = model_and_images()
    summed = copy.deepcopy(model)
    mine = slice(4 * world.rank, 4 * world.rank + 4)
    before = [parameter.clone() for parameter in model.parameters()]
    distributed = comm.distribute(torch.optim.SGD(model.parameters(), lr=0.5), model, AllreduceSettings())
    step(model, distributed, x[mine], y[mine])
    distributed = comm.distribute(
        torch.optim.SGD(summed.parameters(), lr=0.5), summed, AllreduceSettings(), summed=True
    )
    distributed.optimizer.zero_grad()
    (F.cross_entropy(summed(x[mine]), y[mine]) / world.size).backward()
    distributed.step()
    for a, b, old in zip(model.parameters(), summed.parameters(), before, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)
        assert not torch.equal(a, old), "nothing was trained"


def check_attack_launches_no_allreduce() -> None:
    model, x, y = model_and_images()
    distributed = comm.distribute(torch.optim.SGD(model.parameters(), lr=0.5), model, AllreduceSettings())
    with counting() as sent:
        for attack in (FgsmRs(name="fgsm_rs"), Pgd(name="pgd", steps=3, restarts=2)):
            attack.perturb(model, x, y, L2(1.0), torch.Generator())
            assert not sent, f"{attack.name} started {len(sent)} allreduces"
        F.cross_entropy(model(x), y).backward()
        expected = sum(p.nbytes for p in model.parameters()) if world.size > 1 else sum(sent)
        assert sum(sent) == expected, "the check above could not have failed"
    distributed.step()


def check_fp16_compression_keeps_ranks_equal() -> None:
    model, x, y = model_and_images()
    mine = slice(4 * world.rank, 4 * world.rank + 4)
    settings = AllreduceSettings(compression="fp16")
    step(model, comm.distribute(torch.optim.SGD(model.parameters(), lr=0.5), model, settings), x[mine], y[mine])
    own = torch.cat([p.detach().flatten() for p in model.parameters()]).double()
    torch.testing.assert_close(comm.total(own) / world.size, own, rtol=0, atol=1e-12)


def check_buffers_become_the_mean() -> None:
    model, x, _ = model_and_images()
    model.train()(x + world.rank)
    own = {name: b.double() for name, b in model.named_buffers() if "running" in name}
    mean = {name: comm.total(b) / world.size for name, b in own.items()}
    same = all(torch.allclose(own[name], mean[name]) for name in own)
    assert same == (world.size == 1), "ranks saw the same images"
    comm.average_buffers(model)()
    for name, buffer in model.named_buffers():
        if name in mean:
            torch.testing.assert_close(buffer.double(), mean[name], rtol=1e-6, atol=1e-6)


def check_parameters_come_from_rank_0() -> None:
    model, _, _ = model_and_images()
    expected = model.state_dict()["net.fc.weight"].clone()
    if world.rank:
        nn.init.zeros_(model.net.fc.weight)
    comm.broadcast_parameters(model)
    assert torch.equal(model.net.fc.weight, expected)


def check_channels_last_weights_come_from_rank_0_too() -> None:
    model = model_and_images()[0].to(memory_format=torch.channels_last)
    weight = next(p for p in model.parameters() if not p.is_contiguous())  # the layout that Horovod refuses
    expected = weight.clone()
    if world.rank:
        nn.init.zeros_(weight)
    comm.broadcast_parameters(model)
    assert torch.equal(weight, expected)
    assert weight.is_contiguous(memory_format=torch.channels_last)


def check_votes_are_counted_one_call_later() -> None:
    vote = comm.Vote()
    assert vote.count() == []
    assert vote.cast(True, world.rank == 0) == [0, 0]
    assert vote.cast(False, False) == [world.size, 1]
    assert vote.cast(world.rank == world.size - 1, False) == [0, 0]
    assert vote.count() == [1, 0]
    assert vote.count() == []


def check_one_ranks_error_is_everyones() -> None:
    def fails_on_last() -> None:
        if world.rank == world.size - 1:
            raise UserError("only the last rank sees this")

    with pytest.raises(UserError, match="only the last rank sees this"):
        comm.raise_on_all_ranks(fails_on_last)
    assert comm.raise_on_all_ranks(lambda: world.rank) == world.rank


def check_on_root_runs_once_and_tells_all() -> None:
    assert comm.on_root(lambda: f"from {world.rank}") == "from 0"

    def refuse() -> None:
        raise UserError("rank 0 says no")

    with pytest.raises(UserError, match="rank 0 says no"):
        comm.on_root(refuse)


if __name__ == "__main__":
    world = comm.init()
    for name, check in list(globals().items()):
        if name.startswith("check_"):
            check()
            print(f"ok {name} on {world.size}", flush=True)
