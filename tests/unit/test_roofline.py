"""What GPUs should take, worked out on meta tensors."""

import math

import pytest
import timm
import torch
from torch import nn

from benchmarks import gpu, roofline
from benchmarks.roofline import GPUS, PER_NODE, Gpu, Operation, Step
from hpcfast.attacks.fgsm_rs import FgsmRs
from hpcfast.attacks.norms import L2
from hpcfast.attacks.standard import Standard

SIZE, BATCH = 8, 4


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False), nn.Conv2d(4, 4, 3, bias=False), nn.Flatten(), nn.Linear(64, 10)
    )


def traced(net: nn.Module, attack: Standard | FgsmRs) -> Step:
    return roofline.trace(net, SIZE, BATCH, attack, L2(1.0))


def test_flops_are_those_of_the_layers(net: nn.Module) -> None:
    # Multiply-adds of an image; the first layer needs no gradient of its input in a standard step.
    first, second, last = 27 * 4 * 36, 36 * 4 * 16, 640
    forward, standard = first + second + last, 2 * first + 3 * second + 3 * last
    assert traced(net, Standard(name="standard")).flops == 2 * standard
    # The attack goes forward and back to the image, and takes no gradient of a weight.
    assert traced(net, FgsmRs(name="fgsm_rs", start="zero")).flops == 2 * (standard + 2 * forward)


def test_bytes_of_a_convolution_are_counted_kernel_by_kernel(net: nn.Module) -> None:
    step = traced(net, Standard(name="standard"))
    images, one, two = BATCH * 3 * 64, BATCH * 4 * 36, BATCH * 4 * 16  # elements
    weights = 4 * 27, 4 * 36
    forward = [each.bytes for each in step.operations if each.name == "convolution"]
    assert forward == [2 * (images + weights[0] + one), 2 * (one + weights[1] + two)]
    back = [each.bytes for each in step.backward if each.name == "convolution_backward"]
    second = (two + weights[1] + one) + (two + one + weights[1])  # to the input, to the weight
    assert back == [2 * second, 2 * (one + images + weights[0])]


def test_the_network_is_left_alone(net: nn.Module) -> None:
    before = {name: value.clone() for name, value in net.state_dict().items()}
    traced(net, FgsmRs(name="fgsm_rs", start="zero"))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(weight.grad is None for weight in net.parameters())


def test_an_operation_takes_the_longer_of_the_two() -> None:
    slow = Gpu("slow", flops=10.0, bandwidth=5.0, network=1.0)
    assert Operation("dense", flops=100, bytes=5).seconds(slow) == 10
    assert Operation("wide", flops=10, bytes=50).seconds(slow) == 10


def test_published_training_reaches_less_than_the_bound() -> None:
    standard = roofline.trace(timm.create_model("resnet50"), 224, 8, Standard(name="standard"), L2(1.0))
    assert standard.flops == pytest.approx(3 * 8.18e9, rel=0.02)  # 4.09 billion multiply-adds forward (He et al. 2016)
    shares = [roofline.reached(standard, each) for each in GPUS if each.published]
    assert len(shares) == 2
    assert all(0.4 < share < 1 for share in shares if share)


def test_an_allreduce_costs_messages_and_bytes() -> None:
    flat = Gpu("flat", flops=1, bandwidth=1, network=100.0)
    ranks = 4 * PER_NODE
    assert roofline.allreduce_seconds(flat, 4, 0, latency=1.0) == 2 * (ranks - 1)
    assert roofline.allreduce_seconds(flat, 4, 0, latency=1.0, tree=True) == 2 * math.log2(ranks)
    assert roofline.allreduce_seconds(flat, 4, 1000, latency=0) == 2 * 3 / 4 * 10


@pytest.mark.parametrize(("backward", "nodes"), [(62.0, 8), (61.9, 4), (1e9, None)])
def test_where_the_ring_stops_hiding(backward: float, nodes: int | None) -> None:
    flat = Gpu("flat", flops=1, bandwidth=1, network=1e30)
    assert roofline.stops_hiding(flat, backward, 1, latency=1.0) == nodes


def test_tables_have_a_row_a_gpu_and_size(net: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "SIZES", (8, 224))
    small = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(64, 10))
    text = gpu.markdown(gpu_prediction(small))
    assert text.count("| A100 80 GB |") == 4
    assert "assumed" in text  # nothing was published for the H100


def gpu_prediction(net: nn.Module) -> gpu.Prediction:
    made = gpu.Prediction(net)
    made.standard[128] = made.fast[128] = made.fast[8]
    return made
