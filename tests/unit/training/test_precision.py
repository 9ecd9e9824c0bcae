"""Mixed precision: float32 outside, half precision inside, and no step with an overflowed gradient."""

import pytest
import torch
from torch import Tensor, nn

from hpcfast import component
from hpcfast.attacks import Attack, input_gradient
from hpcfast.attacks.norms import L2
from hpcfast.distributed import comm
from hpcfast.distributed.comm import World
from hpcfast.distributed.engines import Distributed
from hpcfast.distributed.settings import AllreduceSettings
from hpcfast.training import precision
from hpcfast.training.precision import DTYPES, Network, Scaler
from tests.unit.nets import convolutional, pictures

CPU = torch.device("cpu")


class Dull(nn.Module):
    """A linear model, but constant for images whose first pixel is black."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(18, 3)

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)
        return self.linear(flat * (flat[:, :1] > 0.5))


def pictures_with_dull_ones() -> tuple[Tensor, Tensor]:
    """12 images, of which rows 0, 3 and 8 have a black first pixel."""
    x, y = pictures()
    x[:, 0, 0, 0] = 1
    x[[0, 3, 8], 0, 0, 0] = 0
    return x, y


def test_in_float32_the_network_is_the_net_bit_for_bit() -> None:
    net, (x, y) = convolutional().eval(), pictures()
    network = Network(net, torch.float32, CPU)
    assert torch.equal(network(x), net(x))
    assert torch.equal(input_gradient(network, x, y), input_gradient(net, x, y))


@pytest.mark.parametrize("name", ["bf16", "fp16"])
def test_in_half_precision_images_and_logits_are_float32_and_nearly_the_nets(name: str) -> None:
    net, (x, y) = convolutional().eval(), pictures()
    network = Network(net, DTYPES[name], CPU)
    inside: list[torch.dtype] = []
    net[0].register_forward_hook(lambda _module, _inputs, output: inside.append(output.dtype))
    logits, gradient = network(x), input_gradient(network, x, y)
    assert (logits.dtype, gradient.dtype) == (torch.float32, torch.float32)
    assert set(inside) == {DTYPES[name]}
    assert all(p.dtype == torch.float32 for p in net.parameters())
    torch.testing.assert_close(logits, net(x), atol=0.02, rtol=0.02)
    assert not torch.equal(logits, net(x)), "nothing was computed in half precision"


@pytest.mark.parametrize("name", DTYPES)
def test_it_knows_its_name(name: str) -> None:
    assert Network(nn.Identity(), DTYPES[name], CPU).precision == name


@pytest.mark.parametrize("name", DTYPES)
def test_vanished_input_gradients_are_counted(name: str) -> None:
    network, (x, y) = Network(Dull(), DTYPES[name], CPU), pictures_with_dull_ones()
    vanished = input_gradient(network, x, y).flatten(1).abs().amax(1) == 0
    assert vanished.nonzero().squeeze(1).tolist() == [0, 3, 8]
    assert network.take_counts().tolist() == [12, 3]
    assert network.take_counts().tolist() == [0, 0], "they were taken"


def test_counts_are_summed_over_steps_of_an_attack() -> None:
    network, (x, y) = Network(Dull(), torch.float32, CPU), pictures_with_dull_ones()
    attack = component.validate(component.find("hpcfast.attacks", "pgd"), {"name": "pgd", "steps": 3})
    assert isinstance(attack, Attack)
    attack.perturb(network, x, y, L2(0.1), torch.Generator())
    assert network.take_counts().tolist() == [3 * 12, 3 * 3]


def test_what_asks_for_no_input_gradient_is_not_counted() -> None:
    network, (x, _) = Network(Dull(), torch.float32, CPU), pictures_with_dull_ones()
    network(x).sum().backward()
    with torch.no_grad():
        network(x.clone().requires_grad_())
    assert network.take_counts().tolist() == [0, 0]


@pytest.mark.parametrize(("name", "evaluations"), [("fgsm_rs", 1), ("nfgsm", 1), ("free", 4), ("gradalign", 2)])
def test_each_gradient_of_a_training_step_is_counted_once(name: str, evaluations: int) -> None:
    """Gradalign: at the images and at random points; that its loss is differentiated again asks for nothing more."""
    network, (x, y) = Network(convolutional(), torch.float32, CPU), pictures()
    attack = component.validate(component.find("hpcfast.attacks", name), {"name": name})
    assert isinstance(attack, Attack)
    for loss in attack.losses(network, x, y, L2(0.5), torch.Generator(), nn.functional.cross_entropy):
        loss.backward()
    assert network.take_counts().tolist() == [evaluations * len(x), 0]


@pytest.mark.parametrize("name", DTYPES)
def test_a_precision_that_is_named_is_taken(name: str) -> None:
    assert precision.choose(name, CPU) == precision.choose(name, torch.device("cuda")) == DTYPES[name]


@pytest.mark.parametrize(("native", "chosen"), [(True, torch.bfloat16), (False, torch.float16)])
def test_a_gpu_chooses_what_it_computes_fast(
    native: bool, chosen: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native or including_emulation)
    assert precision.choose("auto", torch.device("cuda", 0)) == chosen


@pytest.mark.parametrize(("native", "chosen"), [(True, torch.bfloat16), (False, torch.float32)])
def test_a_cpu_chooses_what_it_computes_fast(
    native: bool, chosen: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: native)
    assert precision.choose("auto", CPU) == chosen


def stepping(dtype: torch.dtype) -> tuple[nn.Module, Distributed, Scaler]:
    torch.manual_seed(0)
    model = nn.Linear(4, 2)
    plain: torch.optim.Optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    return model, comm.distribute(plain, model, AllreduceSettings()), Scaler(dtype, CPU)


def take_step(model: nn.Module, distributed: Distributed, scaler: Scaler, factor: float = 1.0) -> None:
    distributed.optimizer.zero_grad()
    scaler.backward(factor * model(torch.ones(3, 4)).square().mean())
    scaler.step(distributed)


def test_a_scaled_step_is_the_plain_one(world: World) -> None:
    found = []
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        model, distributed, scaler = stepping(dtype)
        assert scaler.enabled == (dtype == torch.float16)
        for _ in range(3):
            take_step(model, distributed, scaler)
        assert scaler.skipped == 0
        found.append(model.weight.detach())
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2]), "the scale is a power of two"


@pytest.mark.parametrize("factor", [float("inf"), float("nan")])
def test_an_overflow_skips_the_step_and_halves_the_scale(factor: float, world: World) -> None:
    model, distributed, scaler = stepping(torch.float16)
    take_step(model, distributed, scaler)
    before, scale = model.weight.detach().clone(), scaler._scaler.get_scale()
    for skipped in (1, 2):
        take_step(model, distributed, scaler, factor)
        assert torch.equal(model.weight, before)
        assert scaler._scaler.get_scale() == scale / 2**skipped
        assert scaler.skipped == skipped
    take_step(model, distributed, scaler)
    assert not torch.equal(model.weight, before)
    assert torch.isfinite(model.weight).all()
    assert scaler.skipped == 2


def test_only_many_overflows_in_a_row_exhaust_the_scale(world: World) -> None:
    model, distributed, scaler = stepping(torch.float16)
    overflows = 0
    while not scaler.exhausted:
        take_step(model, distributed, scaler, float("inf"))
        overflows += 1
        assert overflows < 100
    assert overflows == 17, "from 2^16 to below 1"
    assert not Scaler(torch.float32, CPU).exhausted


def test_scale_and_count_survive_a_checkpoint(world: World) -> None:
    model, distributed, scaler = stepping(torch.float16)
    take_step(model, distributed, scaler, float("inf"))
    other = Scaler(torch.float16, CPU)
    other.load_state_dict(scaler.state_dict())
    assert other.skipped == 1
    assert other._scaler.get_scale() == scaler._scaler.get_scale() == 2**15
