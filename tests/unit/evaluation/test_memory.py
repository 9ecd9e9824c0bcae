"""Batches of evaluations: as large as memory allows, halved where it runs out, without a trace in the outcomes."""

from collections.abc import Callable
from itertools import chain
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hpcfast import evaluation
from hpcfast.attacks import Attack, autoattack, margin, rng
from hpcfast.attacks.apgd import Apgd
from hpcfast.attacks.autoattack import Autoattack
from hpcfast.attacks.norms import L1, L2, Ball, Linf
from hpcfast.attacks.pgd import Pgd
from hpcfast.attacks.square import Square
from hpcfast.config import RunConfig
from hpcfast.data import Batch
from hpcfast.data.reader import read_splits
from hpcfast.distributed import comm, machine
from hpcfast.distributed.comm import World
from hpcfast.evaluation import Pieces, attacked, batch_size, batches, rounds
from hpcfast.evaluation.freeze import frozen
from hpcfast.models import ModelSettings
from tests.unit.nets import trained_digits

Tiny = Callable[..., RunConfig]
GB = 10**9
CLOSE = 1e-4
"""Margins, in logits, that rounding may turn."""
CPU = torch.device("cpu")


def network(name: str, size: int, tiny: Tiny) -> tuple[nn.Module, RunConfig]:
    """As it is measured, and a config for it."""
    model = ModelSettings(name=name, mean=(0.5,) * 3, std=(0.25,) * 3).build(10)
    changes = ["data.channels=3", "model.mean=[0.5, 0.5, 0.5]", "model.std=[0.5, 0.5, 0.5]"]
    config = tiny(*changes, f"data.size={size}", "evaluation.batch_size=250")
    return frozen(model, torch.rand(2, 3, size, size)), config


def test_what_a_network_keeps_for_an_image_is_counted() -> None:
    model = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(5 * 64, 2))
    for trains in (True, False):
        model.requires_grad_(trains)
        expected = 4 * (3 + 5) * 64  # the convolution's input and ReLU's result; weights are the same for all images
        assert batches.kept(model, torch.zeros(2, 3, 8, 8)) == expected


@pytest.mark.parametrize(
    ("name", "size", "least", "most"),
    [
        ("cifar_resnet8", 28, 250, 250),
        ("cifar_resnet18", 32, 250, 250),
        ("tf_efficientnet_lite0", 224, 8, 16),
    ],
)
def test_a_batch_follows_the_network_and_the_size_of_images(
    tiny: Tiny,
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    size: int,
    least: int,
    most: int,
) -> None:
    monkeypatch.setattr(machine, "free", lambda device: 20 * GB)
    model, config = network(name, size, tiny)
    assert least <= batch_size([model], config, world) <= most


def test_a_batch_follows_free_memory_which_ranks_of_a_node_share(
    tiny: Tiny, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, config = network("resnet18", 64, tiny)

    def sized(free: int, *others: tuple[tuple[str, str], int]) -> int:
        monkeypatch.setattr(machine, "free", lambda device: free)
        monkeypatch.setattr(comm, "gather", lambda mine: [mine, *((place, there, mine[2]) for place, there in others)])
        return batch_size([model], config, world)

    here = (batches.socket.gethostname(), "cpu")
    alone, little = sized(GB // 4), GB // 8
    assert 2 < alone < 250
    assert alone == pytest.approx(2 * sized(little), abs=2)
    assert alone == pytest.approx(2 * sized(GB // 4, (here, GB // 4)), abs=2), "two ranks here"
    assert sized(GB // 4, (("elsewhere", "cpu"), GB)) == alone
    assert sized(GB // 4, (("elsewhere", "cpu"), little)) == pytest.approx(alone / 2, abs=2), "the smallest, everywhere"
    assert sized(0) == 1
    assert sized(100 * GB) == 250, "no more than the settings ask for"


def batch(n: int) -> Batch:
    return Batch(torch.rand(n, 1, 2, 2), torch.arange(n) % 3, torch.arange(100, 100 + n))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory: you tried"),
        MemoryError(),
    ],
)
def test_a_batch_is_halved_until_it_fits_and_stays_so(error: Exception) -> None:
    tried: list[int] = []

    def work(piece: Batch) -> list[int]:
        tried.append(len(piece.ids))
        if len(piece.ids) > 3:
            raise error
        assert len(piece.x) == len(piece.y) == len(piece.ids)
        return piece.ids.tolist()

    pieces = Pieces(10)
    assert [*chain(*pieces.each(work, batch(10)))] == batch(10).ids.tolist()
    assert tried == [10, 5, 3, 3, 3, 1]
    assert [*chain(*pieces.each(work, batch(4)))] == batch(4).ids.tolist()
    assert tried[6:] == [3, 1]
    assert pieces.each(work, batch(0)) == []
    assert (pieces.most, pieces.size) == (10, 3)


@pytest.mark.parametrize(
    ("n", "text"), [(8, "mat1 and mat2 shapes cannot be multiplied"), (1, "can't allocate memory")]
)
def test_other_errors_and_those_of_a_single_image_are_raised(n: int, text: str) -> None:
    def work(piece: Batch) -> None:
        raise RuntimeError(text)

    with pytest.raises(RuntimeError, match=text):
        Pieces(8).each(work, batch(n))


def test_an_evaluation_whose_memory_runs_out_ends_as_one_whose_does_not(
    tiny: Tiny, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny("evaluation.final.curve=[0.05]")
    split = read_splits(config.data.path)[1]
    model, planned = config.model.build(3), rounds(config, config.evaluation.final, 3)
    original = evaluation._attack

    def measured() -> tuple[Any, list[str]]:
        said: list[str] = []
        return attacked(model, split, np.arange(12), planned, config, world, say=said.append), said

    def starved(model: nn.Module, piece: Batch, *rest: Any) -> Any:
        if len(piece.ids) > 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return original(model, piece, *rest)

    (whole, nothing) = measured()
    monkeypatch.setattr(evaluation, "_attack", starved)
    halved, said = measured()
    assert nothing == []
    assert said == [f"memory has room for 2 images at a time on each rank, not {config.evaluation.batch_size}"]
    for name in ("clean", "predicted", "fooled"):
        assert np.array_equal(getattr(halved, name), getattr(whole, name))


def outcomes(attack: Attack, ball: Ball, size: int) -> tuple[Tensor, Tensor]:
    """Of 100 digits, in batches of ``size``: which tries fooled the model (tries, 100), and the margins after each."""
    model, x, y = trained_digits()
    fooled, margins = [], []
    for number, attempt in enumerate(attack.tries(ball, 10).values()):
        parts = []
        for start in range(0, len(x), size):
            some = torch.arange(start, min(start + size, len(x)))
            parts.append(attempt(model, x[some], y[some], ball, rng.per_image(7, some, number)))
        with torch.no_grad():
            margins.append(margin(model(torch.cat(parts)), y))
        fooled.append(margins[-1] > 0)
    return torch.stack(fooled), torch.stack(margins)


FAB = type("Fab", (Autoattack,), {"tries": lambda self, ball, classes: {
    name: each for name, each in Autoattack.tries(self, ball, classes).items() if name in ("fab-t 1", "fab-t 2")
}})  # fmt: skip


@pytest.mark.parametrize(
    ("attack", "ball"),
    [
        (Pgd(name="pgd", steps=10, restarts=2), Linf(0.1)),
        (Pgd(name="pgd", steps=10), L2(0.6)),
        (Apgd(name="apgd", steps=10, targets=2), Linf(0.1)),
        (Apgd(name="apgd", steps=10, targets=1), L1(2.0)),
        (FAB(name="autoattack"), L2(0.6)),
        (Square(name="square", queries=60), Linf(0.2)),
        (Square(name="square", queries=60), L2(1.2)),
        (Square(name="square", queries=60), L1(4.0)),
    ],
    ids=lambda value: value.name if isinstance(value, Attack) else type(value).__name__,
)
def test_every_images_outcome_is_the_same_in_any_batch(
    attack: Attack, ball: Ball, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(autoattack, "STEPS", 20)
    expected, margins = outcomes(attack, ball, 250)
    assert 0 < expected.any(0).sum() < 100, "choose a ball that matters"
    found, others = outcomes(attack, ball, 13)
    turned = found != expected
    close = turned & (torch.minimum(margins.abs(), others.abs()) < CLOSE)
    assert torch.equal(turned, close), f"{int(turned.sum())} turned, of which {int(close.sum())} are close"
    assert turned.sum() <= 1
