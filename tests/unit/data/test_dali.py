"""DALI's batches: the pixels of the files, each image once, augmentation that can be repeated."""

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hpcfast.data import dali, feed
from hpcfast.data.order import train_order
from hpcfast.data.reader import read_splits
from hpcfast.data.resize import EVAL_CROP
from hpcfast.distributed.comm import World
from tests.conftest import write_images
from tests.unit.loading import AUGMENTS, CPU, joined, pil, read, settings


@pytest.fixture(scope="module")
def colour(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of 16x16 RGB PNG images."""
    return write_images(tmp_path_factory.mktemp("colour"), {"train": 6, "val": 2}, classes=2, size=16, mode="RGB")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of JPEG files of varying sizes, grey levels that say which is which."""
    root = tmp_path_factory.mktemp("photos")
    for split in ("train", "val"):
        for label in range(2):
            (root / split / f"c{label}").mkdir(parents=True)
            for i in range(3):
                pixels = np.full((20 + 13 * i, 50 - 7 * i, 3), 40 + 120 * label + 20 * i, np.uint8)
                Image.fromarray(pixels).save(root / split / f"c{label}" / f"{i}.jpg", quality=95)
    return root


@pytest.mark.parametrize(("fixture", "size", "channels"), [("images", 10, 1), ("colour", 16, 3), ("images", 10, 3)])
def test_pixels_labels_and_ids_are_those_of_the_files(
    request: pytest.FixtureRequest, fixture: str, size: int, channels: int
) -> None:
    root = request.getfixturevalue(fixture)
    x, y, ids = joined(read(settings(root, size, channels)))
    assert x.dtype == torch.float32
    assert y.dtype == ids.dtype == torch.int64
    torch.testing.assert_close(x, pil(root, channels), rtol=0, atol=1e-6)
    split = read_splits(root)[0]
    assert ids.tolist() == list(range(len(split)))
    assert y.tolist() == split.labels.tolist()


def test_images_come_in_the_order_asked_for(images: Path) -> None:
    order = [23, 0, 7, 7, 12, 1]
    x, y, ids = joined(read(settings(images, 10, 1), ids=order))
    assert ids.tolist() == order
    torch.testing.assert_close(x, pil(images, 1)[order], rtol=0, atol=1e-6)
    assert y.tolist() == [order_id // 8 for order_id in order]


@pytest.mark.parametrize("shards", [1, 2, 3, 5])
@pytest.mark.parametrize("count", [5, 11, 24])
def test_evaluation_reads_each_image_once_over_all_shards(images: Path, shards: int, count: int) -> None:
    data = settings(images, 10, 1)
    parts = [read(data, shard=(rank, shards), ids=list(range(count))) for rank in range(shards)]
    seen = Counter(image for part in parts for batch in part for image in batch.ids.tolist())
    assert seen == Counter(range(count)), f"not each of {count} images once over {shards} shards: {seen}"


def test_training_gives_each_rank_its_part_of_each_global_step(images: Path) -> None:
    data = settings(images, 10, 1)
    order = train_order(24, 0, 0, 2, 4)
    ranks = [read(data, key=7, shard=(rank, 2), ids=order.tolist()) for rank in range(2)]
    alone = train_order(24, 0, 0, 1, 8).reshape(-1, 8)
    for step, expected in enumerate(alone):
        assert torch.cat([rank[step].ids for rank in ranks]).tolist() == expected.tolist()


@pytest.mark.parametrize("augment", AUGMENTS)
@pytest.mark.parametrize(("fixture", "channels"), [("images", 1), ("colour", 3), ("photos", 3), ("photos", 1)])
@pytest.mark.parametrize("seed", [None, 3])
def test_batches_have_the_shape_asked_for_and_pixels_in_0_1(
    request: pytest.FixtureRequest, augment: str, fixture: str, channels: int, seed: int | None
) -> None:
    data = settings(request.getfixturevalue(fixture), 12, channels, augment)
    for x, y, ids in read(data, seed):
        assert x.shape == (len(y), channels, 12, 12)
        assert len(y) == len(ids)
        assert 0 <= x.min() <= x.max() <= 1


@pytest.mark.parametrize("augment", AUGMENTS)
def test_evaluation_does_not_augment(colour: Path, augment: str) -> None:
    data = settings(colour, 16, augment=augment)
    first, again = (joined(read(data)).x for _ in range(2))
    assert torch.equal(first, again)
    if augment != "resized_crop_flip":
        torch.testing.assert_close(first, pil(colour, 3), rtol=0, atol=1e-6)


def test_evaluation_of_photos_takes_the_central_part(tmp_path: Path) -> None:
    ramp = np.linspace(0, 255, 64).astype(np.uint8)[None, :].repeat(64, 0)
    for split in ("train", "val"):
        for label in ("a", "b"):
            (tmp_path / split / label).mkdir(parents=True)
            Image.fromarray(ramp).save(tmp_path / split / label / "0.png")
    x = joined(read(settings(tmp_path, 28, 1, "resized_crop_flip"))).x[0, 0]
    cut = (1 - EVAL_CROP) / 2
    assert x[:, 0].mean().item() == pytest.approx(cut, abs=0.02)
    assert x[:, -1].mean().item() == pytest.approx(1 - cut, abs=0.02)


@pytest.mark.parametrize("augment", AUGMENTS)
def test_photos_of_varying_size_keep_their_brightness(photos: Path, augment: str) -> None:
    split = read_splits(photos)[0]
    x, _, ids = joined(read(settings(photos, 16, augment=augment), key=1))
    for image, index in zip(x, ids.tolist(), strict=True):
        expected = np.asarray(Image.open(split.files[index])).mean() / 255
        assert image.max().item() == pytest.approx(expected, abs=0.02), split.files[index]


def test_a_shard_is_the_ranks_part_of_the_world() -> None:
    world = World(rank=3, size=8, local_rank=1, threads=7)
    assert feed.Shard.of(world, 5) == feed.Shard(3, 8, world.device, 5)
    assert feed.Shard.of(world, None).threads == 7


def test_no_ids_give_no_batch(images: Path) -> None:
    assert read(settings(images, 10, 1), key=1, ids=np.arange(0)) == []


@pytest.mark.parametrize(
    ("augment", "key", "decoder"),
    [
        ("none", None, b"decoders__Image"),
        ("pad_crop_flip", 1, b"decoders__Image"),
        ("resized_crop_flip", None, b"decoders__Image"),
        ("resized_crop_flip", 1, b"decoders__ImageSlice"),
    ],
)
def test_with_a_gpu_the_graph_decodes_there_and_of_a_random_crop_no_more_than_the_crop(
    colour: Path, augment: str, key: int | None, decoder: bytes
) -> None:
    for device, where in ((torch.device("cuda", 3), True), (CPU, False)):
        data = settings(colour, 16, augment=augment)
        graph = dali.build(iter([]), np.arange(4), data, device, 1, 2, key).serialize()
        assert re.findall(rb"decoders__\w+", graph) == [decoder]
        assert (b"mixed" in graph) is where
