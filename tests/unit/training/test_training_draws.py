"""What training draws at random: anew in every epoch and step, and the same again in a run of the same seed."""

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

import pytest
import torch
from torch import Tensor

from hpcfast.attacks import Attack
from hpcfast.config import RunConfig
from hpcfast.data import Batch
from hpcfast.distributed.comm import World
from hpcfast.training import train
from hpcfast.training.step import Learner

Tiny = Callable[..., RunConfig]


class Steps:
    """What a run gave its learner: batches and seeds, step by step."""

    def __init__(self, config: RunConfig, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.images: list[dict[int, Tensor]] = []
        """By epoch: each image, by its id, as it was augmented."""
        self.orders: list[list[int]] = []
        self.seeds: list[int] = []
        step = Learner.step

        def noted(learner: Learner, batches: Sequence[Batch], attack: Attack, lr: float, seed: int) -> Tensor:
            if len(self.seeds) % 3 == 0:  # 24 images are 3 steps
                self.images.append({})
                self.orders.append([])
            self.seeds.append(seed)
            for x, _, ids in batches:
                self.orders[-1].extend(ids.tolist())
                self.images[-1].update(zip(ids.tolist(), x.clone(), strict=True))
            return step(learner, batches, attack, lr, seed)

        with monkeypatch.context() as patch:
            patch.setattr(Learner, "step", noted)
            train.train(config, world)


def settings(name: str, seed: int = 0) -> list[str]:
    return [f"name={name}", f"seed={seed}", "data.augment=pad_crop_flip", "evaluation.every=0", "attack.name=standard"]


@pytest.fixture
def steps(tiny: Tiny, world: World, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Steps]:
    return lambda *args: Steps(tiny(*settings(*args)), world, monkeypatch)


def test_every_epoch_has_an_order_of_its_own(steps: Callable[..., Steps]) -> None:
    orders = steps("orders").orders
    assert len(orders) == 3
    assert all(sorted(order) == list(range(24)) for order in orders), "each image once"
    for one, other in combinations(orders, 2):
        assert sum(a == b for a, b in zip(one, other, strict=True)) < 8


def test_an_image_is_augmented_anew_in_every_epoch(steps: Callable[..., Steps]) -> None:
    images = steps("augmented").images
    for one, other in combinations(images, 2):
        alike = sum(torch.equal(one[i], other[i]) for i in one)
        assert alike < 8, f"{alike} of 24 images look the same in two epochs"


def test_every_step_has_numbers_of_its_own(steps: Callable[..., Steps]) -> None:
    seeds = steps("numbers").seeds
    assert len(seeds) == len({*seeds}) == 9


def test_the_seed_settles_all_of_it_and_another_changes_all(steps: Callable[..., Steps]) -> None:
    first, again, other = steps("first"), steps("again"), steps("other", 1)
    assert first.orders == again.orders
    assert first.seeds == again.seeds
    assert all(torch.equal(a[i], b[i]) for a, b in zip(first.images, again.images, strict=True) for i in a)
    assert not {*first.seeds} & {*other.seeds}
    assert all(a != b for a, b in zip(first.orders, other.orders, strict=True))
    assert sum(torch.equal(first.images[0][i], other.images[0][i]) for i in range(24)) < 8


@pytest.mark.parametrize("method", ["fgsm_rs", "nfgsm", "{name: pgd, steps: 1}", "free", "trades", "gradalign"])
def test_a_step_of_training_starts_its_attack_from_its_own_seed(method: str, tiny: Tiny, world: World) -> None:
    """The same batch in two steps of different seeds meets two different perturbations."""
    config: Any = tiny(f"attack={method if method.startswith('{') else '{name: ' + method + '}'}")
    generator = torch.Generator().manual_seed(3)
    x = 0.2 + 0.6 * torch.rand(8, 1, 10, 10, generator=generator)
    batch = Batch(x, torch.randint(3, (8,), generator=generator), torch.arange(8))
    losses = {}
    for seed in (0, 0, 1, 2):
        loss = Learner(config, 3, world).step([batch], config.attack, 0.05, seed).item()
        assert losses.setdefault(seed, loss) == loss
    assert len({*losses.values()}) == 3
