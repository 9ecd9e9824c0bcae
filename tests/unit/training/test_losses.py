"""A step waits for nothing that its device has yet to compute."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from hpcfast.config import RunConfig
from hpcfast.training import losses, train
from hpcfast.training.loop import Loop
from hpcfast.training.losses import Losses
from hpcfast.training.step import Learner
from tests.unit.training.test_learner import batch

Tiny = Callable[..., RunConfig]


class NoWaits(TorchDispatchMode):
    """Fails where a number, or a shape that follows from numbers, is asked of a tensor: a GPU's queue would drain."""

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        by_mask = op is torch.ops.aten.index.Tensor and any(i is not None and i.dtype == torch.bool for i in args[1])
        shapes = torch.Tag.dynamic_output_shape in op.tags and op is not torch.ops.aten.index.Tensor
        if by_mask or shapes or torch.Tag.data_dependent_output in op.tags:
            raise AssertionError(f"{op} waits for the device")
        return op(*args, **(kwargs or {}))


def test_the_mode_finds_what_waits() -> None:
    x = torch.rand(3)
    for wait in (x.sum().item, lambda: bool(x[0] > 0), x.nonzero, lambda: x[x > 0.5], lambda: torch.equal(x, x)):
        with NoWaits(), pytest.raises(AssertionError, match="waits for the device"):
            wait()


MIXED = "{name: mixed, attack: {name: fgsm_rs}, threats: [{norm: L2, eps: 1.0}, {norm: Linf, eps: 0.1}]}"
METHODS = ["standard", "fgsm_rs", "nfgsm", "pgd", "trades", "free", "gradalign"]


@pytest.mark.parametrize("norm", ["Linf", "L2"])
@pytest.mark.parametrize("attack", [MIXED, *(f"{{name: {name}}}" for name in METHODS)])
def test_no_method_waits_in_a_step(tiny: Tiny, world: Any, attack: str, norm: str) -> None:
    config = tiny(f"attack={attack}", f"threat.norm={norm}", "threat.eps=0.1", "precision=bf16", "ema=0.9")
    learner = Learner(config, 3, world)
    for step in range(2):
        with NoWaits():
            learner.step([batch(step)], config.attack, 0.05, seed=step)


def test_what_the_loop_does_at_each_step_waits_for_nothing(tiny: Tiny, world: Any, monkeypatch: Any) -> None:
    seen: list[float] = []
    monkeypatch.setattr(losses.Later, "item", lambda self: seen.append(float(self._value.numpy())) or seen[-1])
    look_at = Loop._look_at

    def without_waits(self: Loop, *arguments: Any) -> None:
        with NoWaits():
            look_at(self, *arguments)

    monkeypatch.setattr(Loop, "_look_at", without_waits)
    train.train(tiny("epochs=1"), world)
    assert len(seen) > 1


def test_a_loss_is_looked_at_a_step_later() -> None:
    found = Losses(lambda loss: loss > 1)
    found.note(torch.tensor(2.0), step=1)
    assert not found.look(but=1)
    found.note(torch.tensor(3.0), step=2)
    assert found.look(but=1)
    assert found.fault == {"step": 1, "loss": "2.0"}
    assert found.look()
    assert found.fault["step"] == 1, "the first stays"
