"""Looks for convolutions whose backward pass damages memory: ``python campaigns/sweep_convolutions.py [--quick]``.

Each shape is computed in a process of its own, channels-last, as hpcfast builds it; ``--bare``: as torch does.
Gradients must be those of torch's own convolution, without oneDNN. Ends with 1 where one fails.
"""

import argparse
import itertools
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is imported: two threads that spin on a busy core

import torch
from torch import Tensor, nn

from hpcfast.models import lay_out

REPEATS = 5
"""Backward passes: damage is not always seen at once."""
LIMIT = 20
"""Seconds after which a process counts as hanging; it needs about one."""
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 5e-2}
"""Largest difference of gradients, relative to the largest of them."""


class Shape(NamedTuple):
    """A convolution, and what it is given."""

    inputs: int
    outputs: int
    kernel: int
    stride: int
    size: int
    threads: int
    groups: int = 1
    dtype: torch.dtype = torch.float32

    def build(self) -> nn.Conv2d:
        torch.manual_seed(0)
        padding = self.kernel // 2
        return nn.Conv2d(self.inputs, self.outputs, self.kernel, self.stride, padding, groups=self.groups, bias=False)


QUICK = [
    *(Shape(inputs, 2 * inputs, 1, 2, 64, threads) for inputs in (4, 8, 12, 16) for threads in (1, 2)),
    Shape(8, 16, 1, 2, 64, 1, dtype=torch.bfloat16),
    Shape(8, 16, 3, 2, 64, 1),
    Shape(8, 8, 3, 2, 64, 1, groups=8),
]


def shapes() -> Iterator[Shape]:
    """All that are looked at; bfloat16 only where oneDNN computes in it."""
    dtypes = [dtype for dtype in TOLERANCE if dtype == torch.float32 or torch.ops.mkldnn._is_mkldnn_bf16_supported()]
    for inputs, kernel, stride, size, threads, dtype in itertools.product(
        (1, 3, 4, 8, 12, 16, 24, 32), (1, 3), (1, 2), (28, 64, 112, 224), (1, 2), dtypes
    ):
        for outputs, groups in ((2 * inputs, 1), (16, 1), (inputs, inputs)):
            yield Shape(inputs, outputs, kernel, stride, size, threads, groups, dtype)


def gradients(shape: Shape, conv: nn.Module) -> Iterator[tuple[Tensor, Tensor]]:
    """Of weights and input, ``REPEATS`` times."""
    batch = 16 if shape.size < 224 else 4
    for _ in range(REPEATS):
        x = torch.rand(batch, shape.inputs, shape.size, shape.size, generator=torch.Generator().manual_seed(1))
        x = x.to(memory_format=torch.channels_last).requires_grad_()
        with torch.autocast("cpu", shape.dtype, enabled=shape.dtype != torch.float32):
            y = conv(x)
        weight, image = torch.autograd.grad(y.float().square().sum(), (conv.get_parameter("weight"), x))
        yield weight, image


def differ(shape: Shape, conv: nn.Module) -> bool:
    """Whether gradients are other than torch's own."""
    torch.set_num_threads(shape.threads)
    with torch.backends.mkldnn.flags(enabled=False):
        expected = next(gradients(shape._replace(dtype=torch.float32), shape.build()))
    return any(
        bool((one - other).abs().amax() > TOLERANCE[shape.dtype] * other.abs().amax())
        for found in gradients(shape, conv)
        for one, other in zip(found, expected, strict=True)
    )


def outcome(work: Callable[[], bool]) -> str:
    """How ``work`` ends in a process of its own: "ok", "wrong", "hangs", or the signal that killed it."""
    sys.stdout.flush()
    if (child := os.fork()) == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what the C library says of a damaged heap
        os._exit(work())
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            return signal.Signals(-code).name if code < 0 else ("ok", "wrong")[code]
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "hangs"


def main() -> int:
    """Look at the shapes; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few shapes only")
    parser.add_argument("--bare", action="store_true", help="torch's convolutions as they are, to see what is avoided")
    options = parser.parse_args()
    failed, chosen = 0, QUICK if options.quick else list(shapes())
    for shape in chosen:
        conv: nn.Module = shape.build()
        conv = conv.to(memory_format=torch.channels_last) if options.bare else lay_out(conv)
        found = outcome(lambda shape=shape, conv=conv: differ(shape, conv))  # type: ignore[misc]
        if found != "ok":
            failed += 1
            print(f"{found:8} {shape}", flush=True)
    print(f"{len(chosen)} shapes, {failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
