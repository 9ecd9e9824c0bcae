"""What a training step and the command's start cost in counts, which are the same on every machine.

A number here that an improvement lowers is lowered with it; one that grows says what the growth buys.
"""

import gc
import subprocess
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from horovod.torch import optimizer
from torch._dynamo.testing import CompileCounter
from torch._dynamo.utils import counters
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from hpcfast.config import RunConfig
from hpcfast.data import Batch
from hpcfast.distributed import joined
from hpcfast.distributed.comm import World
from hpcfast.distributed.engines.horovod import Horovod
from hpcfast.training import precision
from hpcfast.training.step import Learner

Tiny = Callable[..., RunConfig]
METHODS = {"standard": "{name: standard}", "fgsm_rs": "{name: fgsm_rs}", "pgd-2": "{name: pgd, steps: 2}"}
WAITS = ("_local_scalar_dense", "nonzero", "is_nonzero", "item", "equal", "_unique2")


class Kernels(TorchDispatchMode):
    """Counts operations that do work, as views and bare allocations don't."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if not func.is_view and not name.startswith(("empty", "detach", "_record_function")):
            self.found[name] += 1
        return func(*args, **(kwargs or {}))


def batch(size: int) -> Batch:
    generator = torch.Generator().manual_seed(0)
    return Batch(torch.rand(8, 1, size, size, generator=generator), torch.arange(8) % 3, torch.arange(8))


@pytest.mark.parametrize(
    ("method", "precision", "passes", "total"),
    [
        ("standard", "fp32", 1, 90),
        ("fgsm_rs", "fp32", 2, 214),
        ("pgd-2", "fp32", 3, 322),
        ("standard", "bf16", 1, 115),
        ("fgsm_rs", "bf16", 2, 243),
    ],
)
def test_a_step_is_its_passes_and_little_else(
    method: str, precision: str, passes: int, total: int, tiny: Tiny, world: World
) -> None:
    learner, images = Learner(tiny(f"attack={METHODS[method]}", f"precision={precision}"), 3, world), batch(10)
    learner.step([images], learner.config.attack, 0.05, 0)  # makes the optimizer's state
    with Kernels() as counted:
        learner.step([images], learner.config.attack, 0.05, 1)
    found = counted.found
    assert not [name for name in found if name in WAITS], "the step waits for the device"
    assert found["convolution"] == found["convolution_backward"] == 9 * passes
    assert found["native_batch_norm"] == found["native_batch_norm_backward"] == 9 * passes
    assert found["mm"] == 1 + passes, "the linear layer's weights get a gradient once"
    assert found["_fused_sgd_"] == 2, "weights that decay, and those that don't"
    assert sum(found.values()) == total, dict(found)


@pytest.mark.parametrize("method", METHODS)
def test_weights_are_cast_once_a_step(method: str, tiny: Tiny, world: World) -> None:
    """However many passes the attack takes."""
    learner = Learner(tiny(f"attack={METHODS[method]}", "precision=bf16"), 3, world)
    weights = {weight.data_ptr() for weight in learner.model.parameters()}
    casts: list[int] = []

    class Casts(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is torch.ops.aten._to_copy.default and args[0].data_ptr() in weights:
                casts.append(args[0].data_ptr())
            return func(*args, **(kwargs or {}))

    for number in range(2):
        with Casts():
            learner.step([batch(10)], learner.config.attack, 0.05, number)
        assert len(casts) == len(set(casts)) == 9 + 2, "convolutions, and the linear layer's two"
        casts.clear()


@pytest.mark.parametrize(("compression", "size"), [("none", 4), ("fp16", 2)])
@pytest.mark.parametrize("method", METHODS)
def test_a_step_sends_each_gradient_once(
    method: str, compression: str, size: int, tiny: Tiny, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many passes the attack takes, and no larger than asked for."""
    monkeypatch.setenv("HOROVOD_ELASTIC", "1")  # a rank alone sends, too: another might join
    monkeypatch.setattr(joined, "_engine", Horovod())
    learner = Learner(tiny(f"attack={METHODS[method]}", f"allreduce.compression={compression}"), 3, world)
    sent, send = [], optimizer.allreduce_async_
    monkeypatch.setattr(optimizer, "allreduce_async_", lambda x, **how: sent.append(x.nbytes) or send(x, **how))
    for number in range(2):
        learner.step([batch(10)], learner.config.attack, 0.05, number)
    assert sorted(sent) == sorted(2 * [size * weight.numel() for weight in learner.model.parameters()])


def test_a_step_takes_no_stack_trace(tiny: Tiny, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """As torch.manual_seed does for each kind of device that is not there, to keep them for ever."""
    learner = Learner(tiny(), 3, world)
    monkeypatch.setattr(traceback, "format_stack", lambda: pytest.fail("a stack trace"))
    with pytest.raises(pytest.fail.Exception):
        torch.manual_seed(0)
    learner.step([batch(10)], learner.config.attack, 0.05, 1)


def peak(learner: Learner) -> int:
    """Most bytes that a step holds at a time, beyond those it began with."""
    images = batch(24)
    learner.step([images], learner.config.attack, 0.05, 0)  # makes the optimizer's state
    gc.collect()
    gc.disable()  # garbage of other tests, freed meanwhile, would count as ours
    try:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
            learner.step([images], learner.config.attack, 0.05, 1)
    finally:
        gc.enable()
    assert watched.profiler is not None
    events = [event for event in watched.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_attack_needs_no_more_memory_than_the_update(precision: str, tiny: Tiny, world: World) -> None:
    """Its graph is gone when that of the update grows."""
    found = {
        name: peak(Learner(tiny("model.options.width=8", f"attack={attack}", f"precision={precision}"), 3, world))
        for name, attack in METHODS.items()
    }
    assert found["fgsm_rs"] <= 1.05 * found["standard"]
    assert found["pgd-2"] <= 1.05 * found["standard"]


def test_a_compiled_step_is_compiled_once(tiny: Tiny, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its attack and its update are a graph each, without a break; only another size of images makes new ones."""
    torch._dynamo.reset()  # forgets what other tests have compiled
    counters.clear()
    counter = CompileCounter()
    plain = torch.compile
    monkeypatch.setattr(precision.torch, "compile", lambda net: plain(net, backend=counter))
    learner = Learner(tiny("compile=true"), 3, world)
    graphs = []
    for size in (10, 10, 12, 12):
        learner.step([batch(size)], learner.config.attack, 0.05, size)
        graphs.append(counter.frame_count)
    assert graphs == [2, 2, 4, 4]
    assert not counters["graph_break"]


def test_help_imports_nothing_heavy() -> None:
    code = "import sys; before = set(sys.modules); import hpcfast.cli; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert "hpcfast.cli.train" in loaded
    light = {"hpcfast", "typer", "annotated_doc", "shellingham"}  # the last two are typer's own
    assert {name.split(".")[0] for name in loaded} - sys.stdlib_module_names <= light


def test_no_garbage_is_looked_for_while_modules_are_imported_nor_among_what_they_leave() -> None:
    code = """
import gc
from hpcfast.cli import options
looks = []
gc.callbacks.append(lambda phase, info: looks.append(phase))
with options.quick_imports():
    left = [[] for _ in range(100_000)]
print(len(looks), gc.get_freeze_count() > 100_000, gc.isenabled())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "True", "True"]
