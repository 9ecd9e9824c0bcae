"""Networks are channels-last, and their gradients are right in it."""

import copy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from hpcfast.config import RunConfig
from hpcfast.data import Batch
from hpcfast.distributed.comm import World
from hpcfast.evaluation.freeze import frozen
from hpcfast.models import ModelSettings, lay_out
from hpcfast.training.step import Learner
from tests.unit.whole_runs import different

Tiny = Callable[..., RunConfig]
SWEEP = Path(__file__).parents[3] / "campaigns" / "sweep_convolutions.py"
STEPS = """
import torch
from hpcfast.models import ModelSettings, lay_out
from hpcfast.training.precision import Network

def look(net, x, threads, compile_it):
    torch.set_num_threads(threads)
    network = Network(net, torch.float32, torch.device("cpu"), compile_it=compile_it)

    def gradients(through):
        net.zero_grad()
        through(x).square().sum().backward()
        return torch.cat([p.grad.flatten() for p in net.parameters()])

    with torch.backends.mkldnn.flags(enabled=False):
        expected = gradients(net)
    for _ in range(5):
        found = gradients(network)
        assert (found - expected).abs().max() <= 1e-3 * expected.abs().max()
    print("right:", threads, "compiled" if compile_it else "plain", flush=True)

torch.manual_seed(0)
settings = ModelSettings(name="cifar_resnet8", options={"width": 4}, mean=(0.5,) * 3, std=(0.25,) * 3)
for threads in (1, 2):
    look(settings.build(5), torch.rand(16, 3, 64, 64), threads, False)
look(lay_out(torch.nn.Conv2d(4, 8, 1, 2)), torch.rand(16, 4, 64, 64), 1, True)
"""


def network(name: str, **options: object) -> nn.Module:
    return ModelSettings(name=name, options=options, mean=(0.5,) * 3, std=(0.25,) * 3).build(5)


def channels_last(model: nn.Module) -> bool:
    return all(p.is_contiguous(memory_format=torch.channels_last) for p in model.parameters() if p.dim() == 4)


def test_narrow_networks_gradients_are_right_and_their_process_lives() -> None:
    done = subprocess.run([sys.executable, "-c", STEPS], capture_output=True, text=True, timeout=200, check=False)
    expected = "right: 1 plain\nright: 2 plain\nright: 1 compiled\n"
    assert (done.returncode, done.stdout) == (0, expected), done.stderr[-2000:]


def test_a_sweep_over_shapes_finds_no_wrong_gradient_and_no_crash() -> None:
    done = subprocess.run([sys.executable, SWEEP, "--quick"], capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "11 shapes, 0 failed" in done.stdout


@pytest.mark.parametrize(
    ("conv", "mended"),
    [
        (nn.Conv2d(15, 64, 1, 2), True),
        (nn.Conv2d(8, 16, 1, (1, 2)), True),
        (nn.Conv2d(16, 32, 1, 2), False),
        (nn.Conv2d(8, 16, 1, 1), False),
        (nn.Conv2d(8, 16, 3, 2), False),
        (nn.Conv2d(8, 8, 1, 2, groups=8), False),
    ],
    ids=repr,
)
def test_only_narrow_strided_1x1_convolutions_are_computed_otherwise(conv: nn.Conv2d, mended: bool) -> None:
    x = torch.rand(2, conv.in_channels, 7, 8)
    expected = conv(x)
    computed = lay_out(copy.deepcopy(conv))
    assert bool(computed._forward_pre_hooks) is mended
    torch.testing.assert_close(computed(x), expected)


@pytest.mark.parametrize(("name", "options"), [("cifar_resnet8", {"width": 4}), ("resnet18", {})])
def test_a_network_is_built_and_measured_channels_last(name: str, options: dict[str, object]) -> None:
    model = network(name, **options)
    assert channels_last(model)
    assert channels_last(frozen(model, torch.rand(2, 3, 32, 32)))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "lamb"])
def test_a_checkpoint_may_come_from_another_layout(tiny: Tiny, world: World, optimizer: str) -> None:
    """Fused optimizers pair weights and momenta in the order of memory, whatever their strides."""

    def trained(learner: Learner, steps: range) -> Learner:
        x = torch.rand(6, learner.config.data.channels, 8, 8, generator=torch.Generator().manual_seed(0))
        for number in steps:
            learner.step([Batch(x, torch.arange(6) % 3, torch.arange(6))], learner.config.attack, 0.05, number)
        return learner

    config = tiny(f"optim.name={optimizer}")
    straight = trained(Learner(config, 3, world), range(2))
    state = copy.deepcopy(straight.state_dict())
    for weights in (state["model"], *state["optimizer"]["state"].values()):
        for name, value in weights.items():
            if isinstance(value, torch.Tensor) and value.dim() == 4:
                other = torch.channels_last if value.is_contiguous() else torch.contiguous_format
                weights[name] = value.to(memory_format=other)
    resumed = Learner(config, 3, world)
    resumed.load_state_dict(state, "there")
    trained(resumed, range(2, 4))
    trained(straight, range(2, 4))
    assert not different(resumed.model.state_dict(), straight.model.state_dict())
