"""Photographs brought to one size: torch's resizing on a CPU beside Pillow's and DALI's."""

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import functional

from benchmarks import rivals
from hpcfast.data import dali, feed, onbatch
from hpcfast.data.reader import read_splits
from tests.unit.loading import CPU, joined, read, settings

LEVEL = 1 / 255


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs of varying sizes and forms, losslessly compressed."""
    root, random = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for split in ("train", "val"):
        for label in ("a", "b"):
            (root / split / label).mkdir(parents=True)
            for i, size in enumerate([(90, 61), (40, 100), (33, 33), (20, 17)]):
                coarse = Image.fromarray(random.integers(0, 256, (9, 7, 3), dtype=np.uint8))
                coarse.resize(size, Image.Resampling.BICUBIC).save(root / split / label / f"{i}.png")
    return root


def test_crops_are_those_that_pillow_makes(photos: Path) -> None:
    x = joined(read(settings(photos, 24, augment="resized_crop_flip"), key=5)).x
    split = read_splits(photos)[0]
    expected = rivals.Crops(split, np.arange(len(split)), 5, 24, rivals.pil)
    torch.testing.assert_close(x, torch.stack([crop for crop, _ in expected]), rtol=0, atol=1.01 * LEVEL)


def test_evaluation_takes_the_centres_of_what_pillow_resizes(photos: Path) -> None:
    x = joined(read(settings(photos, 28, augment="resized_crop_flip"))).x
    expected = []
    for file in read_splits(photos)[0].files:
        image = Image.open(file)
        sides = [round(side * 32 / min(image.size)) for side in (image.height, image.width)]
        expected.append(functional.to_tensor(functional.center_crop(functional.resize(image, sides), [28, 28])))
    torch.testing.assert_close(x, torch.stack(expected), rtol=0, atol=2.01 * LEVEL)


@pytest.mark.parametrize("key", [None, 5])
def test_dali_where_a_gpu_waits_for_it_makes_the_same(photos: Path, key: int | None) -> None:
    """Its graph ends in resized bytes there; here it runs on the CPU."""
    split, data = read_splits(photos)[0], settings(photos, 24, augment="resized_crop_flip")
    ids = np.arange(len(split))
    with pytest.MonkeyPatch.context() as patch, closing(dali.read_encoded(split, ids, len(split), {})) as encoded:
        patch.setattr(dali, "_leaves_resizing", lambda settings, device: False)
        pipe = dali.build(encoded, ids, data, CPU, 1, len(split), key)
        (images,) = pipe.run()
        x = onbatch.floats(torch.utils.dlpack.from_dlpack(images.as_tensor()).permute(0, 3, 1, 2))
    assert not dali._leaves_resizing(data, torch.device("cuda", 0))
    assert (joined(read(data, key)).x - x).abs().mean() < LEVEL


@pytest.mark.parametrize("threads", [2, 3, 50])
def test_threads_share_a_batch(photos: Path, threads: int) -> None:
    split, data = read_splits(photos)[0], settings(photos, 24, augment="resized_crop_flip")

    def batch(threads: int) -> Tensor:
        shard = feed.Shard(0, 1, CPU, threads)
        return next(feed.batches(split, np.arange(len(split)), data, shard, len(split), 5)).x

    assert torch.equal(batch(threads), batch(1))
