"""Alignment in numbers: known where they can be known, the same however the images are dealt out."""

import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from hpcfast import explain
from hpcfast.config import RunConfig
from hpcfast.data.reader import read_splits
from hpcfast.data.split import spread
from hpcfast.distributed.comm import World
from hpcfast.explain import features
from tests.unit import nets

Tiny = Callable[..., RunConfig]


@pytest.mark.parametrize("scale", [1.0, 1e-20, 1e4])
def test_the_cosine_of_a_linear_model_is_that_of_its_weights(scale: float) -> None:
    model, (x, y) = nets.linear(), nets.pictures()
    model[1].weight.data *= scale
    model[1].bias.data *= scale
    rival = model(x).scatter(1, y[:, None], -torch.inf).argmax(1)
    way = (model[1].weight[rival] - model[1].weight[y]).detach() / scale
    found = features.alignment(model, x, y)
    torch.testing.assert_close(found, nn.CosineSimilarity()(way, x.flatten(1)).abs())


def test_a_model_that_looks_at_nothing_is_aligned_with_nothing() -> None:
    model, (x, y) = nets.linear(), nets.pictures()
    model[1].weight.data.zero_()
    assert torch.equal(features.alignment(model, x, y), torch.zeros(len(x)))


def networks(config: RunConfig) -> list[nn.Module]:
    torch.manual_seed(0)
    return [config.model.build(3).eval() for _ in range(2)]


def test_the_batch_size_changes_nothing(tiny: Tiny, world: World) -> None:
    val = read_splits(tiny().data.path)[1]
    ids = spread(len(val), 11)
    models = networks(tiny())
    found = [explain.measure(models, val, ids, tiny(f"evaluation.batch_size={n}"), world) for n in (1, 4, 50)]
    for numbers, right, read, _ in found:
        assert read.tolist() == ids.tolist()
        assert numbers.shape == (2, 11)
        assert right.shape == (2, 11)
        np.testing.assert_allclose(numbers, found[0][0], atol=1e-5)
        np.testing.assert_array_equal(right, found[0][1])
    assert 0 < found[0][1].mean() < 1, "all images right or all wrong: nothing is tested"


def test_each_row_is_its_own_image_s(tiny: Tiny, world: World) -> None:
    config, reported = tiny("evaluation.batch_size=3"), []
    val = read_splits(config.data.path)[1]
    ids = np.array([7, 2, 9, 0])
    models = networks(config)
    numbers, right, *_ = explain.measure(models, val, ids, config, world, reported.append)
    x = torch.stack([torch.as_tensor(np.asarray(Image.open(val.files[i])) / 255).float()[None] for i in ids])
    y = torch.as_tensor(val.labels[ids])
    for row, model in enumerate(models):
        np.testing.assert_allclose(numbers[row], features.alignment(model, x, y), atol=1e-4)
        np.testing.assert_array_equal(right[row], model(x).argmax(1) == y)
    assert reported == sorted(reported)
    assert (len(reported), reported[-1]) == (2, 4)


def test_bad_images_are_left_out_and_noted(tiny: Tiny, images: Path, tmp_path: Path, world: World) -> None:
    copy = Path(shutil.copytree(images, tmp_path / "copy"))
    val = read_splits(copy)[1]
    Path(val.files[2]).write_bytes(Path(val.files[2]).read_bytes()[:60])
    config = tiny(f"data.path={copy}", "evaluation.batch_size=5")
    numbers, right, read, found = explain.measure(networks(config), val, val.good, config, world)
    assert read.tolist() == [i for i in range(12) if i != 2]
    assert (numbers.shape, right.shape) == ((2, 11), (2, 11))
    assert list(found) == [2]


def test_a_summary_has_the_mean_and_its_interval() -> None:
    found = explain.summary(np.array([0.0, 1.0, 0.5, 0.5], np.float32))
    deviation = math.sqrt(0.5 / 3)  # squares about the mean: 2 x 0.25, over n - 1
    assert (found["mean"], found["n"]) == (0.5, 4)
    assert found["ci95"] == pytest.approx([0.5 - 1.96 * deviation / 2, 0.5 + 1.96 * deviation / 2], abs=1e-4)
    assert explain.summary(np.full(4, 0.25, np.float32)) == {"mean": 0.25, "ci95": [0.25, 0.25], "n": 4}
