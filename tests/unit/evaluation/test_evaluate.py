"""Robust accuracy: each image once, whatever the batch size, with an honest interval."""

import math
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hpcfast.attacks import Attack
from hpcfast.attacks.norms import Ball
from hpcfast.attacks.rng import Source, seed_of
from hpcfast.config import Check, RunConfig
from hpcfast.data.reader import read_splits
from hpcfast.data.split import Split
from hpcfast.distributed.comm import World
from hpcfast.errors import UserError
from hpcfast.evaluation import evaluate, evaluating
from hpcfast.evaluation.interval import interval

Tiny = Callable[..., RunConfig]


class Brightness(nn.Module):
    """Class 1 where an image is bright, class 0 elsewhere; class 2 never."""

    def forward(self, x: Tensor) -> Tensor:
        bright = 40 * (x.flatten(1).mean(1) - 0.495)
        return torch.stack((-bright, bright, torch.full_like(bright, -9.0)), 1)


@pytest.fixture
def val(tiny: Tiny) -> Split:
    return read_splits(tiny().data.path)[1]


def measure(config: RunConfig, split: Split, world: World, check: Check | None = None, **kwargs: Any) -> dict[str, Any]:
    result = evaluate(Brightness(), split, config, check or config.evaluation.final, world, **kwargs)
    assert result.pop("seconds") > 0
    return result


@pytest.mark.parametrize("norm", ["L2", "Linf"])
def test_the_batch_size_changes_nothing(tiny: Tiny, val: Split, world: World, norm: str) -> None:
    threat = [f"threat.norm={norm}", f"threat.eps={0.05 if norm == 'L2' else 0.005}"]
    results = [measure(tiny(*threat, f"evaluation.batch_size={n}"), val, world) for n in (1, 5, 7, 50)]
    assert all(result == results[0] for result in results), results
    assert 0 < results[0]["robust_accuracy"] < results[0]["clean_accuracy"] < 1, "choose eps so that it matters"


class Recorder(Attack):
    """Leave images as they are, and count them."""

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, ball: Ball, source: Source) -> Tensor:
        SEEN.extend(zip(y.tolist(), x.flatten(1).sum(1).tolist(), strict=True))
        assert not model.training
        return x


SEEN: list[tuple[int, float]] = []


def test_every_image_that_is_classified_rightly_is_attacked_once(tiny: Tiny, val: Split, world: World) -> None:
    SEEN.clear()
    result = measure(tiny(), val, world, Check(attack=Recorder(name="recorder")))
    assert result["n_eval"] == 12
    assert len(SEEN) == round(result["clean_accuracy"] * 12)
    assert max(Counter(SEEN).values()) == 1
    assert result["robust_accuracy"] == result["clean_accuracy"]


class Seeds(Attack):
    """Leave images as they are, and note the seed of each one's generator."""

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, ball: Ball, source: Source) -> Tensor:
        assert isinstance(source, list)
        for image, generator in zip(x, source, strict=True):
            SEEDS[float(image.sum())] = generator.initial_seed()
        return x


SEEDS: dict[float, int] = {}


def test_each_image_has_random_numbers_of_its_own(tiny: Tiny, val: Split, world: World) -> None:
    found = []
    for batch_size in (1, 5, 50):
        SEEDS.clear()
        measure(tiny(f"evaluation.batch_size={batch_size}"), val, world, Check(attack=Seeds(name="seeds")))
        found.append(dict(SEEDS))
    assert found[0] == found[1] == found[2]
    assert len(set(found[0].values())) == len(found[0]) > 3
    assert set(found[0].values()) <= {seed_of(tiny().seed, index, 0) for index in range(12)}


def test_the_result_says_what_was_measured(tiny: Tiny, val: Split, world: World) -> None:
    result = measure(tiny(), val, world)
    accuracies = {"clean_accuracy", "robust_accuracy", "balanced_accuracy"}
    by_class = {"classes", "confusion"}
    assert result.keys() == accuracies | by_class | {"n_eval", "ci95", "attack", "curve", "stages", "bad_images"}
    assert result["attack"] == {"name": "pgd", "steps": 3, "alpha": None, "restarts": 2, "norm": "L2", "eps": 0.5}
    for key in ("clean_accuracy", "robust_accuracy"):
        low, high = result["ci95"][key]
        assert 0 <= low <= result[key] <= high <= 1


def test_weights_and_their_gradients_are_left_as_they_were(tiny: Tiny, val: Split, world: World) -> None:
    config = tiny()
    model = config.model.build(3).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    evaluate(model, val, config, config.evaluation.final, world)
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


@pytest.mark.parametrize(("asked", "expected"), [(None, 12), (5, 5), (12, 12), (99, 12)])
def test_as_many_images_are_measured_as_asked_for(
    tiny: Tiny, val: Split, world: World, asked: int | None, expected: int
) -> None:
    done: list[int] = []
    check = Check(attack=tiny().evaluation.final.attack, images=asked)
    assert measure(tiny(), val, world, check, progress=done.append)["n_eval"] == expected
    assert done == sorted(done)
    assert done[-1] == 2 * expected, "two restarts"


def test_a_wider_ball_never_raises_robust_accuracy(tiny: Tiny, val: Split, world: World) -> None:
    robust = [measure(tiny(f"threat.eps={eps}"), val, world)["robust_accuracy"] for eps in (1e-6, 0.02, 0.1, 0.5, 5)]
    assert robust == sorted(robust, reverse=True)
    assert robust[0] > 0
    assert robust[-1] == 0


def test_fewer_images_than_ranks_is_an_error(tiny: Tiny, val: Split) -> None:
    many = World(rank=0, size=13, local_rank=0, threads=1)
    with pytest.raises(UserError, match="12 images to evaluate on 13 ranks; use fewer ranks"):
        measure(tiny(), val, many)


@pytest.mark.parametrize("training", [True, False])
def test_the_models_mode_is_given_back_even_after_an_error(training: bool) -> None:
    model = nn.Sequential(nn.Dropout(), nn.BatchNorm2d(3)).train(training)

    def fail() -> None:
        with evaluating(model):
            assert not any(module.training for module in model.modules())
            raise ValueError

    with pytest.raises(ValueError, match="^$"):
        fail()
    assert all(module.training is training for module in model.modules())


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (10, 10), (3, 7), (500, 1000), (9999, 10_000), (1, 1)])
def test_the_interval_is_wilsons(successes: int, n: int) -> None:
    z, p = 1.959963984540054, successes / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    reach = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert interval(successes, n) == pytest.approx((middle - reach, middle + reach), abs=1e-7)


def test_the_interval_holds_the_fraction_itself() -> None:
    for n in range(1, 120):
        for successes in range(n + 1):
            low, high = interval(successes, n)
            assert 0 <= low <= successes / n <= high <= 1, f"{successes} of {n}"


def test_the_interval_of_the_textbook() -> None:
    """Newcombe, Statistics in Medicine 17 (1998), table I, method 3: 81 of 263 and 15 of 148."""
    assert interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert interval(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)


def test_the_seconds_are_those_that_it_took(tiny: Tiny, val: Split, world: World) -> None:
    config, began = tiny(), time.perf_counter()
    seconds = evaluate(Brightness(), val, config, config.evaluation.final, world)["seconds"]
    assert 0 < seconds < time.perf_counter() - began
