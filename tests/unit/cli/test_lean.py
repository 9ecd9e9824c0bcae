"""Commands start without torch's compiler, and have it once somebody compiles."""

import subprocess
import sys

TRAIN = """
import sys
from hpcfast.cli import options
with options.quick_imports():
    from hpcfast.training import train
import timm.optim
import torch
from torchvision.ops import roi_align

for name in ("sgd", "lamb", "muon"):
    weight = torch.nn.Parameter(torch.ones(4, 4))
    optimizer = timm.optim.create_optimizer_v2([weight], name, lr=0.1)
    weight.grad = torch.ones(4, 4)
    optimizer.step()
    optimizer.zero_grad()
    assert (weight < 1).all(), name
left_out = ("torch._dynamo.symbolic_convert", "torch.distributed.tensor", "sympy", "triton")
assert not [name for name in left_out if name in sys.modules]
"""
COMPILED = "assert torch.equal(torch.compile(torch.nn.Identity(), backend='eager')(weight), weight)"
REAL = "assert 'torch/_dynamo/__init__.py' in torch._dynamo.__file__ and sys.modules['torch._dynamo'] is torch._dynamo"
NEEDS = [
    f"{COMPILED}; {REAL}",
    # An import from it first, which the real one makes, too: there must not be two of a module.
    f"from torch._dynamo.backends.registry import _BACKENDS; {REAL}; {COMPILED}; "
    "assert torch._dynamo.backends.registry._BACKENDS is _BACKENDS",
    f"import torch._dynamo.utils; {REAL}; {COMPILED}",
    f"torch._dynamo.config.cache_size_limit; {REAL}; {COMPILED}",
    "roi_align(torch.rand(1, 1, 8, 8), [torch.tensor([[0.0, 0.0, 4.0, 4.0]])], 2)",
    "import torch.distributed.tensor; torch.distributed.tensor.DTensor",
]
EACH = """
import os
for need in sys.argv[1:]:
    child = os.fork()  # the imports take seconds
    if not child:
        exec(need)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, need
"""


def test_training_starts_without_the_compiler_and_whoever_needs_it_has_it() -> None:
    done = subprocess.run([sys.executable, "-c", TRAIN + EACH, *NEEDS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
