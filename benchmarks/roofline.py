"""What a GPU should take for a training step, worked out where there is none.

A step is run on meta tensors, which have shapes but no memory, and each operation is noted with its FLOPs and the
bytes it reads and writes. An operation takes at least the longer of the two at the GPU's peaks (Williams, Waterman,
Patterson, "Roofline", CACM 2009); published training rates say which share of that bound is reached.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from hpcfast.attacks import Attack
from hpcfast.attacks.norms import Ball


@dataclass(frozen=True)
class Gpu:
    """A data sheet: dense half-precision FLOP/s of the tensor cores, bytes/s of memory and of its node's network."""

    name: str
    flops: float
    bandwidth: float
    network: float
    published: float | None = None
    """Images a second of standard ResNet-50 training, 224 px, mixed precision, one GPU."""


GPUS = (
    Gpu("V100 16 GB", 125e12, 0.90e12, 50e9, published=1200),
    Gpu("A100 80 GB", 312e12, 2.04e12, 200e9, published=2470),
    Gpu("H100 80 GB", 989e12, 3.35e12, 400e9),
)
"""NVIDIA's data sheets of the SXM modules; network: of a DGX-1 (4 x 100 Gb/s), a DGX A100 (8 x 200) and a DGX H100
(8 x 400), eight GPUs each. Published: NVIDIA's DeepLearningExamples, PyTorch ResNet-50 v1.5, "Training performance
results", container 21.03; it has no H100."""
PER_NODE = 8


@dataclass(frozen=True)
class Operation:
    """One kernel, or what would be one: an operation that is not a mere view."""

    name: str
    flops: int
    bytes: int

    def seconds(self, gpu: Gpu) -> float:
        """At the least."""
        return max(self.flops / gpu.flops, self.bytes / gpu.bandwidth)


@dataclass(frozen=True)
class Step:
    """The operations of a training step of ``batch`` images."""

    batch: int
    operations: list[Operation]
    backward: list[Operation]
    """Those behind which the gradients' allreduce can hide: the update's backward pass."""

    @property
    def flops(self) -> float:
        """Of an image."""
        return sum(each.flops for each in self.operations) / self.batch

    @property
    def bytes(self) -> float:
        """Of an image."""
        return sum(each.bytes for each in self.operations) / self.batch

    def images_per_second(self, gpu: Gpu) -> float:
        """At the most."""
        return self.batch / sum(each.seconds(gpu) for each in self.operations)

    def hidden(self, gpu: Gpu) -> float:
        """Seconds of the backward pass, at the least."""
        return sum(each.seconds(gpu) for each in self.backward)


class _Watch(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.operations: list[Operation] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        name = func.overloadpacket.__name__
        if not func.is_view:
            seen = _convolution_backward(*args) if name == "convolution_backward" else (args, kwargs)
            moved = sum(leaf.nbytes for leaf in tree_leaves((seen, out)) if isinstance(leaf, Tensor))
            count: Callable[..., int] | None = flop_registry.get(func.overloadpacket)
            flops = count(*args, **kwargs, out_val=out) if count else 0
            self.operations.append(Operation(name, flops, moved))
        return out


def _convolution_backward(grad: Tensor, x: Tensor, weight: Tensor, *rest: Any) -> list[tuple[Tensor, Tensor]]:
    """What is read: one kernel for the input's gradient, one for the weight's, as far as they are asked for."""
    wanted = rest[-1]
    return [pair for pair, asked in zip(((grad, weight), (grad, x)), wanted, strict=False) if asked]


def trace(model: nn.Module, size: int, batch: int, attack: Attack, ball: Ball) -> Step:
    """The step of training ``model`` (on any device; it is left alone) against ``attack``, which must draw no numbers.

    The network is bfloat16 and channels-last, the optimizer SGD with momentum. What it leaves out: the casts of
    autocast and its float32 weights, and whatever a compiler would fuse.
    """
    net = _Half(copy.deepcopy(model).to("meta", torch.bfloat16).to(memory_format=torch.channels_last).train())
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    x = torch.empty(batch, 3, size, size, device="meta").to(memory_format=torch.channels_last)
    y = torch.empty(batch, device="meta", dtype=torch.int64)
    before, backward = _Watch(), _Watch()
    with before:
        (loss,) = attack.losses(net, x, y, ball, None, F.cross_entropy)  # type: ignore[arg-type]  # draws nothing
    with backward:
        loss.backward()
    with _Watch() as after:
        optimizer.step()
    return Step(batch, before.operations + backward.operations + after.operations, backward.operations)


class _Half(nn.Module):
    """Float32 images to float32 logits, like :class:`.precision.Network`, whose autocast meta tensors lack."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self._net = net

    def forward(self, x: Tensor) -> Tensor:
        return self._net(x.bfloat16()).float()


def reached(standard: Step, gpu: Gpu) -> float | None:
    """The share of the bound that published training reaches; ``standard`` is the step it took."""
    return gpu.published / standard.images_per_second(gpu) if gpu.published else None


def allreduce_seconds(gpu: Gpu, nodes: int, volume: float, latency: float, tree: bool = False) -> float:
    """An allreduce over all GPUs of so many nodes; bandwidth is the node's network, which its rings or trees share.

    For n GPUs a ring sends 2 (n - 1) messages one after the other (Thakur, Rabenseifner, Gropp 2005), a double binary
    tree 2 log2 n (Sanders, Speck, Träff 2009, as in NCCL).

    Args:
        volume: bytes of gradients.
        latency: seconds of a message.
    """
    ranks = nodes * PER_NODE
    messages = 2 * math.log2(ranks) if tree else 2 * (ranks - 1)
    return messages * latency + 2 * (nodes - 1) / nodes * volume / gpu.network


def stops_hiding(gpu: Gpu, backward: float, volume: float, latency: float, tree: bool = False) -> int | None:
    """The least number of nodes, a power of two, whose allreduce takes longer than ``backward`` seconds.

    Returns:
        None if it is more than 65,536.
    """
    for exponent in range(1, 17):
        if allreduce_seconds(gpu, 2**exponent, volume, latency, tree) > backward:
            return int(2**exponent)
    return None
