"""A step that float16 overflows in is skipped: it leaves no trace but in the loss scale."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hpcfast.attacks import Attack, Criterion
from hpcfast.attacks.norms import Ball
from hpcfast.attacks.rng import Source
from hpcfast.config import RunConfig
from hpcfast.distributed.comm import World
from hpcfast.training.step import Learner
from tests.unit.training.test_learner import batch, cloned, train
from tests.unit.whole_runs import different

Tiny = Callable[..., RunConfig]
HALF = ("precision=fp16", "ema=0.9")


class Steep(Attack):
    """A finite loss whose gradients overflow."""

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, ball: Ball, source: Source) -> Tensor:
        return x

    def losses(
        self, model: nn.Module, x: Tensor, y: Tensor, ball: Ball, source: Source, criterion: Criterion
    ) -> Iterator[Tensor]:
        yield 1e30 * criterion(model(x), y)


def on_the_way_forward(learner: Learner) -> None:
    learner.step([batch()._replace(x=batch().x * torch.inf)], learner.config.attack, 0.05, seed=9)


def on_the_way_back(learner: Learner) -> None:
    learner.step([batch()], Steep(name="steep"), 0.05, seed=9)


def in_the_second_of_two(learner: Learner) -> None:
    learner.step([batch(), batch()._replace(x=batch().x * torch.inf)], learner.config.attack, 0.05, seed=9)


overflows = pytest.mark.parametrize("overflow", [on_the_way_forward, on_the_way_back, in_the_second_of_two])


def parts(learner: Learner) -> dict[str, dict[str, Tensor]]:
    """All tensors that a step changes: those of the model, its average and the optimizer."""
    momentum = {
        f"{number} {name}": value
        for number, state in learner.optimizer.state_dict()["state"].items()
        for name, value in state.items()
        if isinstance(value, Tensor)
    }
    return {
        "weights": cloned(dict(learner.model.named_parameters())),
        "statistics": cloned(dict(learner.model.named_buffers())),
        "average": cloned(learner.result.state_dict()),
        "optimizer": cloned(momentum),
    }


@overflows
def test_weights_average_and_optimizer_are_those_before_it(
    overflow: Callable[[Learner], None], tiny: Tiny, world: World
) -> None:
    learner = Learner(tiny(*HALF), 3, world)
    train(learner, range(3))
    before = parts(learner)
    assert different(before["average"], learner.model.state_dict()), "an average that moved would be seen"
    overflow(learner)
    assert (learner.scaler.skipped, learner.updates) == (1, 3)
    after = parts(learner)
    for part in ("weights", "average", "optimizer"):
        assert not different(before[part], after[part]), part


@pytest.mark.parametrize("overflow", [on_the_way_forward, in_the_second_of_two])
def test_batchnorm_has_the_statistics_before_it(overflow: Callable[[Learner], None], tiny: Tiny, world: World) -> None:
    learner = Learner(tiny(*HALF), 3, world)
    train(learner, range(2))
    before = parts(learner)["statistics"]
    overflow(learner)
    assert before
    assert not different(before, parts(learner)["statistics"])
    assert learner.finite()


def test_statistics_that_are_numbers_are_kept(tiny: Tiny, world: World) -> None:
    """Where only the gradients overflow, as each time that the scale has grown, the images were seen."""
    learner = Learner(tiny(*HALF), 3, world)
    train(learner, range(2))
    before = parts(learner)["statistics"]
    on_the_way_back(learner)
    moved = different(before, parts(learner)["statistics"])
    assert {name for name in before if "running" in name} <= {*moved}


def test_training_goes_on_as_if_it_had_not_been(tiny: Tiny, world: World) -> None:
    struck, spared = (Learner(tiny(*HALF), 3, world) for _ in range(2))
    for learner in (struck, spared):
        train(learner, range(2))
    on_the_way_forward(struck)
    for learner in (struck, spared):
        train(learner, range(2, 4))
    for part, expected in parts(spared).items():
        found: dict[str, Any] = parts(struck)[part]
        for name, tensor in expected.items():  # the scale is half: a few small gradients round otherwise
            torch.testing.assert_close(found[name], tensor, rtol=1e-3, atol=1e-5, msg=f"{part} {name}")
