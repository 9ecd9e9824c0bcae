"""Alignment in numbers: known where they can be known, the same however the images are dealt out."""

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from hpcfast.config import RunConfig
from hpcfast.data.reader import read_splits
from hpcfast.data.split import spread
from hpcfast.distributed.comm import World
from hpcfast.errors import UserError
from hpcfast.explain import alignment, features
from tests.unit import nets

Tiny = Callable[..., RunConfig]


def wave(cycles: float, size: int = 32) -> Tensor:
    """A picture (1, 1, size, size) of one frequency, in cycles a pixel."""
    return torch.cos(2 * math.pi * cycles * torch.arange(size)).expand(1, 1, size, size)


@pytest.mark.parametrize(
    ("image", "share"),
    [
        (torch.ones(1, 3, 32, 32), 1.0),
        (torch.zeros(1, 1, 32, 32), 0.0),
        (wave(1 / 8), 1.0),
        (wave(5 / 32), 0.0),
        (wave(1 / 8) + 2 * wave(1 / 2).mT, 1 / 9),  # energies of 1/2 and 4
        (wave(1 / 8) * wave(1 / 8).mT, 0.0),  # the length of (1/8, 1/8) counts, not its parts
    ],
    ids=["uniform", "black", "low", "high", "mixed", "diagonal"],
)
def test_smoothness_is_the_share_of_low_frequencies(image: Tensor, share: float) -> None:
    torch.testing.assert_close(alignment.smoothness(image), torch.tensor([share]), atol=1e-5, rtol=0)
    torch.testing.assert_close(alignment.smoothness(1e-25 * image), torch.tensor([share]), atol=1e-5, rtol=0)


def test_white_noise_is_as_smooth_as_documented() -> None:
    images = torch.randn(200, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    assert alignment.smoothness(images).mean().item() == pytest.approx(0.05, abs=0.005)


@pytest.mark.parametrize("scale", [1.0, 1e-20, 1e4])
def test_cosines_of_a_linear_model_are_those_of_its_weights(scale: float) -> None:
    model, (x, y) = nets.linear(), nets.pictures()
    model[1].weight.data *= scale
    model[1].bias.data *= scale
    means = torch.rand(3, *x.shape[1:], generator=torch.Generator().manual_seed(5))
    rival = model(x).scatter(1, y[:, None], -torch.inf).argmax(1)
    way = (model[1].weight[rival] - model[1].weight[y]).detach() / scale
    found = alignment.measures(model, x, y, means)
    cosine = nn.CosineSimilarity()
    torch.testing.assert_close(found[:, 0], cosine(way, x.flatten(1)).abs())
    torch.testing.assert_close(found[:, 1], cosine(way, (means[rival] - means[y]).flatten(1)))
    torch.testing.assert_close(found[:, 2], alignment.smoothness(features.slope(model, x, y)))
    assert found[:, 2].min() > 0
    torch.testing.assert_close(alignment.measures(model, x, y, 1 - means)[:, 1], -found[:, 1])


def test_a_model_that_looks_at_nothing_is_aligned_with_nothing() -> None:
    model, (x, y) = nets.linear(), nets.pictures()
    model[1].weight.data.zero_()
    assert torch.equal(alignment.measures(model, x, y, torch.rand(3, *x.shape[1:])), torch.zeros(len(x), 3))


def test_class_means_are_those_of_the_files(tiny: Tiny, images: Path, world: World) -> None:
    train = read_splits(images)[0]
    means = alignment.class_means(train, tiny("evaluation.batch_size=5"), world)
    for label, name in enumerate(train.classes):
        files = [np.asarray(Image.open(file)) / 255 for file in sorted((images / "train" / name).iterdir())]
        np.testing.assert_allclose(means[label, 0].numpy(), np.mean(files, 0), atol=1e-6)


def test_class_means_need_only_some_images_of_each_class(
    tiny: Tiny, images: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alignment, "IMAGES_A_CLASS", 2)
    train = read_splits(images)[0]
    means = alignment.class_means(train, tiny(), world)
    files = sorted((images / "train" / train.classes[1]).iterdir())
    expected = np.mean([np.asarray(Image.open(files[i])) / 255 for i in (0, 4)], 0)
    np.testing.assert_allclose(means[1, 0].numpy(), expected, atol=1e-6)


def networks(config: RunConfig) -> list[nn.Module]:
    torch.manual_seed(0)
    return [config.model.build(3).eval() for _ in range(2)]


def test_the_batch_size_changes_nothing(tiny: Tiny, world: World) -> None:
    val = read_splits(tiny().data.path)[1]
    ids = spread(len(val), 11)
    means, models = torch.rand(3, 1, 10, 10), networks(tiny())
    found = [alignment.measure(models, val, ids, means, tiny(f"evaluation.batch_size={n}"), world) for n in (1, 4, 50)]
    for numbers, right, read in found:
        assert read.tolist() == ids.tolist()
        assert numbers.shape == (2, 11, 3)
        assert right.shape == (2, 11)
        np.testing.assert_allclose(numbers, found[0][0], atol=1e-5)
        np.testing.assert_array_equal(right, found[0][1])
    assert 0 < found[0][1].mean() < 1, "all images right or all wrong: nothing is tested"


def test_each_row_is_its_own_image_s(tiny: Tiny, world: World) -> None:
    config, reported = tiny("evaluation.batch_size=3"), []
    val = read_splits(config.data.path)[1]
    ids = np.array([7, 2, 9, 0])
    means, models = torch.rand(3, 1, 10, 10), networks(config)
    numbers, right, _ = alignment.measure(models, val, ids, means, config, world, reported.append)
    x = torch.stack([torch.as_tensor(np.asarray(Image.open(val.files[i])) / 255).float()[None] for i in ids])
    y = torch.as_tensor(val.labels[ids])
    for row, model in enumerate(models):
        np.testing.assert_allclose(numbers[row], alignment.measures(model, x, y, means), atol=1e-4)
        np.testing.assert_array_equal(right[row], model(x).argmax(1) == y)
    assert reported == sorted(reported)
    assert (len(reported), reported[-1]) == (2, 4)


def test_bad_images_are_left_out_and_noted(tiny: Tiny, images: Path, tmp_path: Path, world: World) -> None:
    copy = Path(shutil.copytree(images, tmp_path / "copy"))
    train, val = read_splits(copy)
    for split, image in ((train, 8), (val, 2)):
        Path(split.files[image]).write_bytes(Path(split.files[image]).read_bytes()[:60])
    config, found = tiny(f"data.path={copy}", "evaluation.batch_size=5"), ({}, {})
    means = alignment.class_means(train, config, world, found[0])
    files = sorted((copy / "train" / train.classes[1]).iterdir())[1:]
    np.testing.assert_allclose(
        means[1, 0], np.mean([np.asarray(Image.open(file)) / 255 for file in files], 0), atol=1e-6
    )
    numbers, right, read = alignment.measure(networks(config), val, val.good, means, config, world, faults=found[1])
    assert read.tolist() == [i for i in range(12) if i != 2]
    assert (numbers.shape, right.shape) == ((2, 11, 3), (2, 11))
    assert [list(faults) for faults in found] == [[8], [2]]


def test_a_class_without_an_image_that_can_be_read_is_named(
    tiny: Tiny, images: Path, tmp_path: Path, world: World
) -> None:
    copy = Path(shutil.copytree(images, tmp_path / "copy"))
    for file in (copy / "train" / "class1").iterdir():
        file.write_bytes(b"")
    with pytest.raises(UserError, match="no image of class class1 can be read"):
        alignment.class_means(read_splits(copy)[0], tiny(f"data.path={copy}"), world)


def test_a_summary_has_the_mean_and_its_interval() -> None:
    numbers = np.array([[0.0, -1.0, 0.25], [1.0, 1.0, 0.25], [0.5, 0.0, 0.25], [0.5, 0.0, 0.25]], np.float32)
    found: dict[str, Any] = alignment.summary(numbers)
    assert list(found) == ["image", "class_mean", "smoothness"]
    deviation = math.sqrt(0.5 / 3)  # squares about the mean: 2 x 0.25, over n - 1
    assert found["image"]["mean"] == 0.5
    assert found["image"]["ci95"] == pytest.approx([0.5 - 1.96 * deviation / 2, 0.5 + 1.96 * deviation / 2], abs=1e-4)
    assert found["smoothness"] == {"mean": 0.25, "ci95": [0.25, 0.25], "n": 4}
