"""Fixtures that tests share: a job of one rank, tiny image folders, tiny runs."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
from PIL import Image

from tests.skips import pytest_configure  # noqa: F401 - a hook

# Of all that tests start, forked ranks too, which take it from the process they are forked from: runs that must be
# equal bit for bit need equal threads. Tiny networks are slower with more, and many times slower beside other work.
os.environ["OMP_NUM_THREADS"] = "1"

# Repeatable, and no time limit an example: the machine may be busy.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=50)
hypothesis.settings.load_profile("repeatable")

RUN = """\
threat: {norm: L2, eps: 0.5}
data: {channels: 1, size: 10, batch_size: 8, threads: 1, held_out: 6}
model: {name: cifar_resnet8, options: {width: 2}, mean: [0.5], std: [0.25]}
attack: {name: fgsm_rs}
guard: {every: 0}
epochs: 3
optim: {lr: 0.05, lr_batch: 8}
schedule: {name: cosine}
evaluation:
  monitor: {attack: {name: pgd, steps: 2}, images: 6}
  final: {attack: {name: pgd, steps: 3, restarts: 2}}
  confirm: [{attack: {name: pgd, steps: 3, restarts: 2}}]
  batch_size: 5
log_every: 1
"""


@pytest.fixture(scope="session")
def world() -> Any:
    """A job of one rank, in this process."""
    from hpcfast.distributed import comm

    return comm.init()


def write_images(root: Path, counts: dict[str, int], classes: int, size: int = 10, mode: str = "L") -> Path:
    """Write PNG images of noise, brighter at one edge or the other: learnable, and no two alike."""
    rng = np.random.default_rng(0)
    depth = () if mode == "L" else (3,)
    for split, count in counts.items():
        for label in range(classes):
            folder = root / split / f"class{label}"
            folder.mkdir(parents=True)
            ramp = np.rot90(np.linspace(0, 1, size)[None, :].repeat(size, 0), label)
            for i in range(count):
                pixels = rng.integers(0, 128, (size, size, *depth)) + 127 * ramp.reshape(size, size, *[1] * len(depth))
                Image.fromarray(pixels.astype(np.uint8), mode=mode).save(folder / f"{i:03d}.png")
    return root


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of 8 training and 4 validation images, grey, 10x10; don't write into it."""
    return write_images(tmp_path_factory.mktemp("images") / "shapes", {"train": 8, "val": 4}, classes=3)


@pytest.fixture(scope="session")
def more_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with 10 training images a class: tiny runs hold 6 of them out and train on 24."""
    return write_images(tmp_path_factory.mktemp("more") / "shapes", {"train": 10, "val": 4}, classes=3)


@pytest.fixture
def tiny(tmp_path: Path, more_images: Path) -> Callable[..., Any]:
    """Call it with overrides to get the configuration of a tiny run in ``tmp_path/runs``."""
    from hpcfast.config import load

    path = tmp_path / "tiny.yaml"
    path.write_text(RUN)
    return lambda *overrides: load(path, [f"data.path={more_images}", f"runs={tmp_path / 'runs'}", *overrides])
