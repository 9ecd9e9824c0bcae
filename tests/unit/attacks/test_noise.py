"""Random numbers: one generator for a batch, or one for each image."""

from collections.abc import Callable

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import Tensor

from hpcfast.attacks import rng

draws = pytest.mark.parametrize("draw", [rng.normal, rng.uniform])


@draws
@given(ids=st.lists(st.integers(0, 10**6), min_size=1, max_size=8, unique=True), seed=st.integers(0, 2**31))
def test_an_images_numbers_do_not_depend_on_its_batch(draw: Callable[..., Tensor], ids: list[int], seed: int) -> None:
    x = torch.zeros(len(ids), 1, 3, 3)
    together = draw(x, rng.per_image(seed, torch.tensor(ids)))
    for row, index in enumerate(ids):
        alone = draw(x[:1], rng.per_image(seed, torch.tensor([index])))
        assert torch.equal(together[row], alone[0]), f"image {index} got other numbers in the batch {ids}"


@draws
def test_images_and_seeds_get_different_numbers(draw: Callable[..., Tensor]) -> None:
    x = torch.zeros(20, 1, 3, 3)
    numbers = torch.cat([draw(x, rng.per_image(seed, torch.arange(20))) for seed in (0, 1)])
    assert len(numbers.flatten(1).unique(dim=0)) == 40


@draws
def test_a_generator_gives_each_row_its_own_numbers(draw: Callable[..., Tensor]) -> None:
    numbers = draw(torch.zeros(20, 1, 3, 3), torch.Generator().manual_seed(0))
    assert numbers.shape == (20, 1, 3, 3)
    assert numbers.dtype == torch.float32
    assert len(numbers.flatten(1).unique(dim=0)) == 20


def test_uniform_is_in_the_unit_interval_and_normal_is_not() -> None:
    x, generator = torch.zeros(100, 1, 10, 10), torch.Generator().manual_seed(0)
    uniform, normal = rng.uniform(x, generator), rng.normal(x, generator)
    assert 0 <= uniform.min() < 0.01
    assert 0.99 < uniform.max() < 1
    assert normal.mean().abs() < 0.05
    assert (normal.std() - 1).abs() < 0.05


def test_select_takes_the_generators_of_the_rows() -> None:
    source = rng.per_image(0, torch.arange(5))
    assert rng.select(source, torch.tensor([3, 1])) == [source[3], source[1]]
    one = torch.Generator()
    assert rng.select(one, torch.tensor([3, 1])) is one


@given(st.lists(st.lists(st.integers(0, 10**6), min_size=3, max_size=3).map(tuple), min_size=2, unique=True))
def test_different_numbers_give_different_seeds(numbers: list[tuple[int, ...]]) -> None:
    seeds = [rng.seed_of(*n) for n in numbers]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_seeds_of_neighbouring_runs_epochs_and_ranks_are_distinct() -> None:
    seeds = {rng.seed_of(seed, epoch, rank) for seed in range(10) for epoch in range(20) for rank in range(64)}
    assert len(seeds) == 10 * 20 * 64
