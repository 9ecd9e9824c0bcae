"""Augmentation: a function of (key, image) alone, from legal windows, distributed as in the papers."""

from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given
from nvidia.dali import fn, pipeline_def
from nvidia.dali.pipeline import Pipeline
from PIL import Image
from torchvision.transforms import RandomResizedCrop

from hpcfast.data import augment, dali, feed
from hpcfast.data.order import train_order
from hpcfast.data.split import Split
from tests.conftest import write_images
from tests.unit.loading import AUGMENTS, CPU, by_id, joined, pil, read, settings

keys, ids = st.integers(0, 2**63 - 1), st.lists(st.integers(0, 2**40), min_size=1, max_size=20)
EDGES = np.array([0, 0.5, 1 - 2**-24], np.float32)


@pytest.fixture(scope="module")
def colour(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of twelve 16x16 RGB PNG images."""
    return write_images(tmp_path_factory.mktemp("colour"), {"train": 12, "val": 2}, classes=2, size=16, mode="RGB")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same number of JPEG files of varying sizes, noise."""
    root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for split, label in ((split, label) for split in ("train", "val") for label in range(2)):
        (root / split / f"c{label}").mkdir(parents=True)
        for i in range(12):
            pixels = rng.integers(0, 256, (20 + 5 * i, 80 - 4 * i, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(root / split / f"c{label}" / f"{i:02d}.jpg")
    return root


def ramp(path: Path, height: int, width: int) -> Split:
    """One image, listed 2000 times, whose red is the column and whose green is the row, times 4."""
    rows, columns = np.mgrid[:height, :width]
    Image.fromarray(np.stack([4 * columns, 4 * rows, 0 * rows], 2).astype(np.uint8)).save(path / "ramp.png")
    return Split(path, [str(path / "ramp.png")] * 2000, np.zeros(2000, int), ("ramp",))


def splitmix(state: int) -> int:
    """One output of the published generator, in Python's integers."""
    z = (state + 0x9E3779B97F4A7C15) % 2**64
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
    return z ^ z >> 31


@given(keys, ids)
def test_numbers_are_those_of_the_published_generator(key: int, ids: list[int]) -> None:
    assert splitmix(1234567) == 6457827717110365317  # as Java's SplittableRandom and Rosetta Code have it
    numbers = augment.uniform(key, np.array(ids))
    assert numbers.dtype == np.float32
    step = 0x9E3779B97F4A7C15
    for image, row in zip(ids, numbers.tolist(), strict=True):
        state = splitmix(key + image * step)
        assert row == [(splitmix(state + i * step) >> 40) / 2**24 for i in range(8)]


@given(keys, ids, st.integers(1, 7))
def test_numbers_of_an_image_do_not_depend_on_its_batch(key: int, ids: list[int], batch: int) -> None:
    alone = np.concatenate([augment.uniform(key, np.array([image])) for image in ids])
    numbers = augment.by_batch(key, np.array(ids), batch)
    batches = [numbers(i) for i in range(-(-len(ids) // batch))]
    assert np.array_equal(np.concatenate(batches), alone)
    with pytest.raises(StopIteration):
        numbers(len(batches))


def test_numbers_are_uniform_and_unrelated_between_images_epochs_and_uses() -> None:
    n = 100_000
    now, later = (augment.uniform(key, np.arange(n)) for key in (5, 6))
    columns = np.concatenate([now[:-1], now[1:], later[1:]], axis=1)
    for column in columns.T:
        counts = np.histogram(column, 10, (0, 1))[0]
        assert np.abs(counts - n / 10).max() < 5 * np.sqrt(n * 0.1 * 0.9)
    correlation = np.corrcoef(columns.T) - np.eye(24)
    assert np.abs(correlation).max() < 5 / np.sqrt(n)


@pytest.mark.parametrize("name", AUGMENTS)
@pytest.mark.parametrize("fixture", ["colour", "photos"])
def test_an_epoch_resumed_at_any_step_gives_the_same_batches(
    request: pytest.FixtureRequest, fixture: str, name: str
) -> None:
    data = settings(request.getfixturevalue(fixture), 16, augment=name)
    whole = read(data, key=3, ids=train_order(24, 0, 2, 1, 4))
    assert len(whole) == 6
    for step in range(1, 6):
        rest = read(data, key=3, ids=train_order(24, 0, 2, 1, 4, done=4 * step))
        assert len(rest) == 6 - step
        for expected, got in zip(whole[step:], rest, strict=True):
            assert expected.ids.tolist() == got.ids.tolist()
            assert torch.equal(expected.x, got.x)


@pytest.mark.parametrize("name", AUGMENTS)
@pytest.mark.parametrize("fixture", ["colour", "photos"])
def test_an_image_looks_the_same_on_any_number_of_ranks_and_threads(
    request: pytest.FixtureRequest, fixture: str, name: str
) -> None:
    data = settings(request.getfixturevalue(fixture), 16, augment=name)
    alone = by_id(read(data, key=3, ids=train_order(24, 0, 2, 1, 8), batch=8))
    for ranks, batch, threads in ((2, 4, 1), (3, 2, 2)):
        order = train_order(24, 0, 2, ranks, batch)
        parts = [read(data, 3, (rank, ranks), order, batch, threads) for rank in range(ranks)]
        shared = by_id([one for part in parts for one in part])
        assert shared.keys() == alone.keys()
        differ = [image for image in alone if not torch.equal(alone[image], shared[image])]
        assert not differ, f"on {ranks} ranks images {differ} look different"


def test_numbers_go_to_their_images_where_blocks_are_not_even(colour: Path) -> None:
    data = settings(colour, 16, augment="pad_crop_flip")
    alone = by_id(read(data, key=3))
    parts = [read(data, 3, (rank, 5), batch=3) for rank in range(5)]
    for image, x in by_id([one for part in parts for one in part]).items():
        assert torch.equal(x, alone[image]), f"image {image}"


@pytest.mark.parametrize("name", AUGMENTS[1:])
def test_epochs_augment_differently(photos: Path, name: str) -> None:
    data = settings(photos, 16, augment=name)
    first, again, other = (joined(read(data, key)).x for key in (3, 3, 4))
    assert torch.equal(first, again)
    assert (first != other).flatten(1).any(1).sum() > len(first) // 2, "most images should look different"


def test_images_of_a_batch_are_augmented_differently(tmp_path: Path) -> None:
    split = ramp(tmp_path, 16, 16)
    data = settings(tmp_path, 16, augment="pad_crop_flip")
    batch = next(feed.batches(split, np.arange(12), data, feed.Shard(0, 1, CPU, 1), 12, 0))
    assert len(batch.x.flatten(1).unique(dim=0)) > 6


def test_pad_crop_flip_shifts_by_at_most_an_eighth_and_mirrors_all_equally_often(colour: Path) -> None:
    data = settings(colour, 16, augment="pad_crop_flip")
    original = pil(colour, 3)
    padded = torch.nn.functional.pad(original, (2, 2, 2, 2))
    shifts = [padded[..., top : top + 16, left : left + 16] for top in range(5) for left in range(5)]
    legal = torch.stack([*shifts, *(shifted.flip(3) for shifted in shifts)])
    seen = np.zeros(50, int)
    for key in range(30):
        x, _, ids = joined(read(data, key))
        for image, index in zip(x, ids, strict=True):
            matches = (legal[:, index] - image).abs().flatten(1).amax(1) < 1e-6
            assert matches.sum() == 1, f"image {index} with key {key} is no shifted, perhaps mirrored, original"
            seen += matches.numpy()
    expected = 30 * 24 / 50
    assert ((seen - expected) ** 2 / expected).sum() < 49 + 4 * np.sqrt(2 * 49), f"chi squared of {seen}"


@pytest.mark.parametrize(("height", "width"), [(60, 60), (40, 60), (60, 45)])
def test_random_crops_have_nearly_the_areas_and_aspects_of_torchvision(tmp_path: Path, height: int, width: int) -> None:
    split, data = ramp(tmp_path, height, width), settings(tmp_path, 8, augment="resized_crop_flip")
    x, _, ids = joined(list(feed.batches(split, np.arange(2000), data, feed.Shard(0, 1, CPU, 1), 50, 9)))
    assert ids.tolist() == list(range(2000))
    columns, rows = x[:, 0] * 255 / 4, x[:, 1] * 255 / 4
    # Three of eight pixels apart, away from the edges, where resizing has no neighbours to average.
    across, down = ((columns[:, 4, 5] - columns[:, 4, 2]) * 8 / 3).numpy(), ((rows[:, 5] - rows[:, 2]) * 8 / 3).numpy()
    sides = np.stack([down[:, 4], np.abs(across)], 1)
    assert abs((across < 0).mean() - 0.5) < 0.05, "half of them are mirrored"

    torch.manual_seed(0)
    image = torch.empty(3, height, width)
    theirs = np.array([RandomResizedCrop.get_params(image, [0.08, 1], [3 / 4, 4 / 3])[2:] for _ in range(2000)])
    deciles = np.arange(1, 10) / 10
    # Drawing again, as torchvision does, favours aspects near the image's; otherwise sampling alone makes a difference.
    for what, atol in ((lambda s: s.prod(1) / (height * width), 0.06), (lambda s: np.log(s[:, 1] / s[:, 0]), 0.08)):
        ours, wanted = (np.quantile(what(drawn), deciles) for drawn in (sides, theirs))
        np.testing.assert_allclose(ours, wanted, rtol=0, atol=atol)

    for size, middle, side in ((height, rows.mean((1, 2)), 0), (width, columns.mean((1, 2)), 1)):
        room = size - sides[:, side]
        place = (middle.numpy() + 0.5 - sides[:, side] / 2)[room > 10] / room[room > 10]
        counts = np.histogram(place.clip(0, 1), 4, (0, 1))[0]
        assert np.abs(counts / len(place) - 0.25).max() < 0.06, f"windows are at any place alike: {counts}"


@pipeline_def(num_threads=1, device_id=None)
def windows(extents: np.ndarray, numbers: np.ndarray) -> Pipeline:
    draws = fn.external_source(lambda _: augment.crops(numbers)[1:], num_outputs=3)
    return dali.window(fn.external_source(lambda _: extents), *draws)


def test_windows_lie_inside_the_image_whatever_its_form_and_the_numbers() -> None:
    sizes = [1, 2, 3, 50, 333, 5000]
    cases = [
        ((h, w), (0, area, aspect, down, right))
        for h in sizes
        for w in sizes
        for area in EDGES
        for aspect in EDGES
        for down, right in zip(EDGES, EDGES[::-1], strict=True)
    ]
    extents = np.array([case[0] for case in cases], np.int64)
    pipe = windows(extents, np.array([case[1] for case in cases], np.float32), batch_size=len(cases))
    start, shape = (out.as_array() for out in pipe.run())
    for i, (extent, draws) in enumerate(cases):  # without DALI they are the very same
        _, form, area, place = augment.crops(np.array([draws], np.float32))
        assert augment.window(np.array(extent), form[0], area[0], place[0]) == (*start[i], *shape[i]), (extent, draws)
    assert (start >= 0).all()
    assert (shape >= 1).all()
    assert (start + shape <= extents).all()
    large = extents.min(1) >= 50
    aspect = shape[large, 1] / shape[large, 0]
    assert 0.7 < aspect.min() < 0.8 < 1.25 < aspect.max() < 1.4
    square = large & (extents[:, 0] == extents[:, 1])
    area = shape[square].prod(1) / extents[square].prod(1)
    assert 0.07 < area.min() < 0.09
    assert area.max() == 1


def test_images_of_extreme_form_are_read(tmp_path: Path) -> None:
    for split, label in ((split, label) for split in ("train", "val") for label in "ab"):
        (tmp_path / split / label).mkdir(parents=True)
        for height, width in ((1, 50), (50, 1), (1, 1), (1, 2), (3, 400)):
            pixels = np.full((height, width, 3), 200, np.uint8)
            Image.fromarray(pixels).save(tmp_path / split / label / f"{height}x{width}.png")
            Image.fromarray(pixels).save(tmp_path / split / label / f"{height}x{width}.jpg")
    data = settings(tmp_path, 8, augment="resized_crop_flip")
    for key in range(20):
        x = joined(read(data, key)).x
        assert x.shape == (20, 3, 8, 8)
        assert (x * 255 - 200).abs().max() < 2, "nothing from outside the image"


def test_each_number_is_for_one_thing() -> None:
    """Otherwise what is mirrored, say, would also be dark."""
    base = np.full((1, augment.COUNT), 0.25, np.float32)

    def drawn(numbers: np.ndarray) -> list[bytes]:
        mirror, form, area, place = augment.crops(numbers)
        assert augment.shifts(numbers, 100)[0] == mirror
        parts = [mirror, form, area, *place.T, *augment.jitters(numbers, 0.4)]
        return [part.tobytes() for part in parts]

    changed = []
    for number in range(augment.COUNT):
        other = base.copy()
        other[0, number] = 0.75
        changed.append([i for i, (a, b) in enumerate(zip(drawn(base), drawn(other), strict=True)) if a != b])
    assert sorted(changed) == [[i] for i in range(augment.COUNT)]


def test_half_of_all_numbers_mirror() -> None:
    below, at = np.float32(0.5) - np.float32(2**-24), np.float32(0.5)
    numbers = np.repeat(np.array([[0], [below], [at], [1 - 2**-24]], np.float32), 8, axis=1)
    mirrored = augment.shifts(numbers, 1)[0].tolist()
    assert mirrored == [1, 1, 0, 0], "numbers are multiples of 2^-24, and half of them are less than a half"


@pytest.mark.parametrize("strength", [0.4, 1.0, 1.5])
def test_colour_factors_are_from_the_range_of_torchvision(strength: float) -> None:
    numbers = np.stack([np.zeros(8), np.full(8, 1 - 2**-24)]).astype(np.float32)
    for factors in augment.jitters(numbers, strength):
        assert factors == pytest.approx([max(0.0, 1 - strength), 1 + strength], abs=1e-6)
