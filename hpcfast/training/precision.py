"""Mixed precision: which, and the network, the backward pass and the step in it.

Weights and gradients stay float32 (Horovod knows no bfloat16); autocast computes in half precision inside the
network only, so that attacks and losses see float32 images and logits and need not know.
"""

from contextlib import AbstractContextManager
from typing import Any, cast

import torch
from torch import Tensor, nn

from hpcfast.distributed.engines import Distributed

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose(name: str, device: torch.device) -> torch.dtype:
    """The type that setting ``name`` means on ``device``; "auto" is the fastest the device computes in."""
    if name != "auto":
        return DTYPES[name]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32


class Network(nn.Module):
    """Float32 images to float32 logits, computed in ``dtype``.

    It also counts the input gradients that attacks ask it for, and those that vanish altogether: a sign or a
    direction of a zero gradient is no attack, and in half precision that happens unnoticed.
    """

    def __init__(self, net: nn.Module, dtype: torch.dtype, device: torch.device, compile_it: bool = False) -> None:
        super().__init__()
        self.dtype = dtype
        self.precision = next(name for name, named in DTYPES.items() if named == dtype)
        self.asked = 0
        """Images whose gradient an attack asked for, and how many of these gradients were zero."""
        self.vanished = torch.zeros((), dtype=torch.int64, device=device)  # so that counting waits for nothing
        self._net = cast(nn.Module, torch.compile(net)) if compile_it else net

    def forward(self, x: Tensor) -> Tensor:
        if x.requires_grad and torch.is_grad_enabled():
            self._count_once(x)
        with torch.autocast(x.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return self._net(x).float()

    def casting_once(self) -> AbstractContextManager[object]:
        """The block whose forward passes share their weights' half-precision copies; no weight may change in it.

        Autocast drops its copies where the outermost of its blocks ends; this one, switched off, casts nothing itself.
        """
        return torch.autocast(self.vanished.device.type, self.dtype, enabled=False)

    def take_counts(self) -> Tensor:
        """Gradients asked for and vanished since the last call; float64, shape (2,)."""
        counts = torch.tensor([self.asked, int(self.vanished)], dtype=torch.float64)
        self.asked = 0
        self.vanished.zero_()
        return counts

    def _count_once(self, x: Tensor) -> None:
        def count(gradient: Tensor) -> None:
            hook.remove()  # a gradient that is differentiated in turn comes by again
            self.asked += len(gradient)
            self.vanished += (gradient.detach().flatten(1).abs().amax(1) == 0).sum()

        hook = x.register_hook(count)


class Scaler:
    """Backward pass and step, with the loss scaled where float16 gradients would underflow (Micikevicius et al. 2018).

    The gradients are first summed over all ranks and then looked at: whether a step is skipped is thereby agreed.
    """

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self.enabled = dtype == torch.float16
        self._scaler = torch.amp.GradScaler(device.type, enabled=self.enabled)
        self.skipped = 0
        """Steps skipped because a gradient overflowed."""

    @property
    def scale(self) -> float:
        """By which gradients are too long; asking for it waits for the device."""
        return self._scaler.get_scale()

    @property
    def exhausted(self) -> bool:
        """Whether gradients overflow at any scale: the loss itself is no longer finite."""
        return self.scale < 1

    def backward(self, loss: Tensor) -> None:
        self._scaler.scale(loss).backward()

    def step(self, distributed: Distributed) -> bool:
        """Take a step and return True, or skip it on all ranks."""
        if not self.enabled:
            distributed.step()
            return True
        distributed.wait()
        self._scaler.unscale_(distributed.optimizer)
        before = self.scale
        with distributed.stepping():
            self._scaler.step(distributed.optimizer)
        self._scaler.update()
        skipped = self.scale < before
        self.skipped += skipped
        return not skipped

    def state_dict(self) -> dict[str, Any]:
        return {"scaler": self._scaler.state_dict(), "skipped": self.skipped}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._scaler.load_state_dict(state["scaler"])
        self.skipped = state["skipped"]
