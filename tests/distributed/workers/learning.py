"""What steps of training do to the ranks, on every rank; prints ``ok NAME`` for each check that held on this rank."""

from typing import Any

import torch
from counting import counting
from torch import Tensor

from hpcfast.attacks.standard import Standard
from hpcfast.component import validate
from hpcfast.config import RunConfig
from hpcfast.data import Batch
from hpcfast.distributed import comm
from hpcfast.training import precision
from hpcfast.training.step import Learner

CONFIG: dict[str, Any] = {
    "name": "learning",
    "threat": {"norm": "L2", "eps": 0.5},
    "data": {"path": "data", "channels": 1, "size": 12, "batch_size": 4},
    "model": {"name": "cifar_resnet8", "options": {"width": 16}, "mean": [0.5], "std": [0.25]},
    "attack": {"name": "standard"},
    "epochs": 1,
    "optim": {"lr": 0.1, "lr_batch": 8},
    "schedule": {"name": "cosine"},
    "evaluation": {"monitor": {"attack": {"name": "pgd"}}, "final": {"attack": {"name": "pgd"}}},
}


def learner(**changes: Any) -> Learner:
    return Learner(validate(RunConfig, CONFIG | changes), 5, world)


def batch(step: int) -> Batch:
    """Other images on each rank."""
    generator = torch.Generator().manual_seed(step * world.size + world.rank)
    return Batch(torch.rand(4, 1, 12, 12, generator=generator), torch.arange(4), torch.arange(4))


def step(subject: Learner, number: int) -> None:
    subject.step([batch(number)], Standard(name="standard"), 0.1, number)


def weights(subject: Learner) -> Tensor:
    return torch.cat([tensor.detach().flatten().double() for tensor in subject.model.state_dict().values()])


def differ(tensor: Tensor) -> bool:
    """Whether ``tensor`` is another one on another rank; NaN equals NaN."""
    first = comm.on_root(lambda: tensor)
    mine = torch.tensor([int(not torch.equal(first.nan_to_num(7e30), tensor.nan_to_num(7e30)))])
    return bool(comm.total(mine))


def check_gradients_become_the_mean_of_the_ranks() -> None:
    for changes in ({}, {"precision": "fp16"}, {"allreduce": {"compression": "fp16"}}):
        subject, other = learner(**changes), learner(**changes)
        own = batch(0)
        named = dict(other.model.named_parameters())
        loss = torch.nn.functional.cross_entropy(other.network(own.x), own.y)
        local = dict(zip(named, torch.autograd.grad(loss, list(named.values())), strict=True))  # which sends nothing
        expected, (rtol, atol) = comm.mean(local), (0.02, 1e-3) if changes else (1e-5, 1e-6)
        step(subject, 0)
        for name, weight in subject.model.named_parameters():
            torch.testing.assert_close(weight.grad, expected[name], rtol=rtol, atol=atol)
        assert differ(torch.cat([gradient.flatten() for gradient in local.values()])), (
            "all ranks had the same gradients"
        )


def check_a_step_sends_each_gradient_and_buffer_once_and_a_ballot() -> None:
    subject, vote = learner(), comm.Vote()
    step(subject, 0)
    with counting() as sent:
        step(subject, 1)
        vote.cast(True, False, False)
    vote.count()
    parameters = list(subject.model.parameters())
    buffers = [buffer for buffer in subject.model.buffers() if buffer.is_floating_point()]
    assert not all(parameter.is_contiguous() for parameter in parameters), "the weights are channels-last"
    assert sum(sent) == sum(each.nbytes for each in (*parameters, *buffers)) + 12, sent


def check_accumulated_batches_are_sent_once() -> None:
    subject = learner(accumulate=2)
    with counting() as sent:
        subject.step([batch(0), batch(1)], Standard(name="standard"), 0.1, 0)
    buffers = [buffer for buffer in subject.model.buffers() if buffer.is_floating_point()]
    assert sum(sent) == sum(each.nbytes for each in (*subject.model.parameters(), *buffers)), sent
    assert not differ(weights(subject))


def check_half_precision_on_the_wire_halves_the_bytes() -> None:
    subject = learner(allreduce={"compression": "fp16"})
    with counting() as sent:
        step(subject, 0)
    buffers = sum(buffer.nbytes for buffer in subject.model.buffers() if buffer.is_floating_point())
    assert 2 * (sum(sent) - buffers) == sum(p.nbytes for p in subject.model.parameters()), sent


def check_weights_stay_equal_while_ranks_see_other_images() -> None:
    assert differ(batch(0).x)
    subject = learner(ema=0.9)
    start = weights(subject)
    for number in range(4):
        step(subject, number)
    assert not torch.equal(weights(subject), start)
    assert not differ(weights(subject))
    assert subject.average is not None
    assert not differ(torch.cat([tensor.flatten().double() for tensor in subject.average.state_dict().values()]))


def overflow_on_rank_0(subject: Learner) -> None:
    """A step whose loss is so large on rank 0, and there alone, that its scaled gradients overflow."""
    sound = subject._criterion
    subject._criterion = lambda logits, y: sound(logits, y) * (1e30 if world.rank == 0 else 1)
    step(subject, 1)
    subject._criterion = sound


def check_an_overflow_on_one_rank_is_skipped_by_all() -> None:
    subject = learner(precision="fp16")
    step(subject, 0)
    assert subject.scaler.skipped == 0
    overflow_on_rank_0(subject)
    assert subject.scaler.skipped == 1, f"{subject.scaler.skipped} steps skipped"
    step(subject, 2)
    assert subject.scaler.skipped == 1, "the next step is taken again"
    assert not differ(torch.tensor(subject.scaler._scaler.get_scale()))
    assert subject.finite()
    assert not differ(weights(subject))


def check_the_noise_scale_is_measured_from_each_ranks_own_gradients() -> None:
    subject = learner()
    step(subject, 0)
    local, mean, n = subject.noise.take()
    assert n == 1
    received = sum(float(parameter.grad.square().sum()) for parameter in subject.model.parameters())
    assert abs(mean - received) < 1e-4 * received
    assert not differ(torch.tensor(mean))
    assert differ(torch.tensor(local))
    apart = sum(each - mean for each in comm.gather(local))
    assert apart > 0, "the mean is shorter than what it is the mean of"


class Hasty(precision.Scaler):
    """The order that looks standard, and is wrong: each rank looks for an overflow in its own gradients."""

    def step(self, distributed: Any) -> bool:
        self._scaler.unscale_(distributed.optimizer)
        distributed.wait()
        before = self._scaler.get_scale()
        with distributed.stepping():
            self._scaler.step(distributed.optimizer)
        self._scaler.update()
        skipped = self._scaler.get_scale() < before
        self.skipped += skipped
        return not skipped


def check_looking_for_overflow_before_the_sum_makes_ranks_diverge() -> None:
    # Sent in half precision, gradients travel as copies: what each rank looks at is surely its own.
    subject = learner(precision="fp16", allreduce={"compression": "fp16"})
    subject.scaler = Hasty(torch.float16, world.device)
    overflow_on_rank_0(subject)
    assert subject.scaler.skipped == (world.rank == 0), "one rank skips, the other takes an infinite step"
    assert differ(weights(subject)), "the check of our own order could not have failed"


if __name__ == "__main__":
    world = comm.init()
    for name, check in list(globals().items()):
        if name.startswith("check_"):
            check()
            print(f"ok {name} on {world.size}", flush=True)
