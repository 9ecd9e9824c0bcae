"""A model whose logits are no numbers has no accuracy."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from hpcfast.config import RunConfig
from hpcfast.data.reader import read_splits
from hpcfast.distributed import comm
from hpcfast.distributed.comm import World
from hpcfast.errors import UserError
from hpcfast.evaluation import attacked, chosen_images, classify, evaluate, rounds
from hpcfast.evaluation.corruptions import measure
from hpcfast.evaluation.outcomes import NOT_FINITE, Journal

Tiny = Callable[..., RunConfig]
CLASSES = ("class0", "class1", "class2")


class Broken(nn.Module):
    """Guesses the brightest edge; where ``when`` says so, one logit is ``value``."""

    def __init__(self, when: Callable[[Tensor], Tensor], value: float = float("nan")) -> None:
        super().__init__()
        self.when, self.value = when, value

    def forward(self, x: Tensor) -> Tensor:
        logits = torch.stack((x[:, 0, 4, 9], x[:, 0, 0, 4], x[:, 0, 4, 0]), 1)
        wrong = self.when(x)[:, None] & torch.tensor([False, True, False])
        return torch.where(wrong, self.value, logits)


def always(x: Tensor) -> Tensor:
    return torch.ones(len(x), dtype=torch.bool)


def is_image(file: str) -> Callable[[Tensor], Tensor]:
    """True for this one image."""
    import numpy as np
    from PIL import Image

    pixels = torch.tensor(np.asarray(Image.open(file)) / 255, dtype=torch.float32)
    return lambda x: (x[:, 0] - pixels).abs().amax((1, 2)) < 1e-6


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_logit_that_is_no_number_is_no_class(value: float) -> None:
    x = torch.zeros(3, 1, 10, 10)
    x[1] = 1
    assert classify(Broken(lambda x: x[:, 0, 0, 0] == 1, value), x).tolist() == [0, NOT_FINITE, 0]


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_one_image_of_all_is_enough_and_is_named(
    ranks: int, tiny: Tiny, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every rank refuses, also those whose own images are fine: they hear of it where all tell what they found."""
    config = tiny()
    split = read_splits(config.data.path)[1]
    model, check = Broken(is_image(split.files[7])), config.evaluation.final
    ids, planned = chosen_images(split, check, world), rounds(config, check, 3)
    told = []

    def tell(value: object) -> list[object]:
        told.append(value)
        return [value]

    monkeypatch.setattr("hpcfast.evaluation.batch_size", lambda *_: 5)  # it asks the ranks for their memory
    monkeypatch.setattr(comm, "gather", tell)
    alone = [0, 0]
    for rank in range(ranks):
        try:
            attacked(model, split, ids, planned[:1], config, World(rank, ranks, 0, 1))
            alone[0] += 1
        except UserError:
            alone[1] += 1
    assert alone == [ranks - 1, 1]
    monkeypatch.setattr(comm, "gather", lambda value: told)
    for rank in range(ranks):
        with pytest.raises(UserError, match="first val/class1/003.png"):
            attacked(model, split, ids, planned[:1], config, World(rank, ranks, 0, 1))


def test_a_model_of_nan_has_no_accuracy(tiny: Tiny, world: World, tmp_path: Path) -> None:
    config = tiny()
    split = read_splits(config.data.path)[1]
    with pytest.raises(UserError, match=r"not finite for 12 images, first val/class0/000.png: .* mean and std"):
        evaluate(Broken(always), split, config, config.evaluation.final, world)
    ids, planned = chosen_images(split, config.evaluation.final, world), rounds(config, config.evaluation.final, 3)
    for _ in range(2):  # the second time all is in the journal
        with pytest.raises(UserError, match="not finite"):
            attacked(Broken(always), split, ids, planned, config, world, journal=Journal(tmp_path, 0))


def test_logits_that_only_an_attack_drives_out_of_the_numbers(tiny: Tiny, world: World) -> None:
    config = tiny("threat={norm: Linf, eps: 0.2}")
    split = read_splits(config.data.path)[1]
    clean = Broken(lambda x: x[:, 0, 0, 0] < -1)
    assert evaluate(clean, split, config, config.evaluation.final, world)["clean_accuracy"] > 0.8
    pixels = [is_image(file) for file in split.files]
    known = Broken(lambda x: ~torch.stack([same(x) for same in pixels]).any(0), float("inf"))
    with pytest.raises(UserError, match="not finite"):
        evaluate(known, split, config, config.evaluation.final, world)


def test_corrupted_images_too(tiny: Tiny, images: Path, world: World, tmp_path: Path) -> None:
    part = tmp_path / "fog" / "1"
    shutil.copytree(images / "val", part)
    bad = Broken(is_image(str(part / "class2" / "001.png")), float("inf"))
    with pytest.raises(UserError, match="for 1 images, first 1/class2/001.png"):
        measure(bad, tmp_path, CLASSES, tiny(), world)
