"""Training the recipe that we recommend, without what a run writes."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks import Bench
from hpcfast.attacks.rng import seed_of
from hpcfast.config import RunConfig, load
from hpcfast.data import Batch, feed
from hpcfast.data.split import Split
from hpcfast.datasets.prepare import prepare
from hpcfast.datasets.sources.digits import Digits
from hpcfast.datasets.sources.fashion_mnist import FashionMnist
from hpcfast.training.step import Learner

ROOT = Path(__file__).parents[1]


def read(bench: Bench, *overrides: str) -> RunConfig:
    """configs/fashion_mnist_l2.yaml, which docs/results.md explains; shortened, on digits."""
    if bench.short:
        data = bench.once("digits", lambda out: prepare(Digits(name="digits"), out, lambda done: None))
        overrides = (*overrides, "data.images=64", "data.batch_size=16", "model.options.width=2")
    else:
        data = Path("data/fashion-mnist")
        prepare(_published(), data, lambda done: None)
    return load(ROOT / "configs" / "fashion_mnist_l2.yaml", [f"data.path={data}", "precision=auto", *overrides])


def _published() -> FashionMnist:
    folder = Path(os.environ.get("FASHION_MNIST", "/usr/share/datasets/fashion-mnist"))
    return FashionMnist(name="fashion_mnist", source=folder)


def stream(bench: Bench, config: RunConfig, split: Split) -> Iterator[tuple[Batch, float]]:
    """All batches of a run, each with its learning rate."""
    phase, epochs = config.all_phases[0], config.epochs or 1
    steps = len(split) // phase.batch_size
    for epoch in range(epochs):
        order = np.random.default_rng([config.seed, epoch]).permutation(len(split))[: steps * phase.batch_size]
        shard = feed.Shard.of(bench.world, 1)
        batches = feed.batches(split, order, config.data, shard, phase.batch_size, seed_of(config.seed, epoch))
        for number, batch in enumerate(batches):
            factor = config.schedule.factor(epoch + number / steps, epochs)
            yield batch, config.optim.scaled_lr(phase.batch_size) * factor


def trained(bench: Bench, config: RunConfig, split: Split) -> Learner:
    """A learner that has seen all of them."""
    learner = Learner(config, len(split.classes), bench.world)
    learner.model.train()
    for number, (batch, lr) in enumerate(stream(bench, config, split)):
        learner.step([batch], config.attack, lr, seed_of(config.seed, number))
    return learner
