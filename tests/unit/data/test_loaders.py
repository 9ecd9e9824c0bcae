"""DALI, Pillow and the device's memory give the same batches: for the same seed, epoch and image, bit for bit."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from hpcfast.config import RunConfig
from hpcfast.data import Batch, DataSettings, feed, plain, resident
from hpcfast.data.readahead import BadImages
from hpcfast.data.reader import read_splits
from hpcfast.data.split import Split
from hpcfast.distributed import machine
from hpcfast.distributed.comm import World
from hpcfast.errors import UserError
from hpcfast.runs.events import read as read_events
from hpcfast.training import train
from tests.unit.damaged import GOOD, ODD
from tests.unit.loading import AUGMENTS, CPU, settings
from tests.unit.whole_runs import different, weights

Tiny = Callable[..., RunConfig]
LOADERS = {"dali": {"resident": False}, "plain": {"resident": False}, "resident": {"resident": True}}


@pytest.fixture(params=["png", "jpg", "grey.png", "grey.jpg"])
def squares(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Two classes of 24 images of 32 x 32 pixels in all."""
    return written(tmp_path / request.param, request.param, lambda random: (32, 32))


@pytest.fixture(params=["png", "jpg"])
def photos(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The same, of sides from 20 to 90 pixels."""
    return written(tmp_path / "photos", request.param, lambda random: random.integers(20, 90, 2))


def written(root: Path, kind: str, sides: Callable[[np.random.Generator], tuple[int, ...]]) -> Path:
    random = np.random.default_rng(0)
    for split in ("train", "val"):
        for label in range(2):
            (root / split / f"c{label}").mkdir(parents=True)
            for i in range(12):
                rough = random.integers(0, 256, (6, 6, 3), dtype=np.uint8)
                image = Image.fromarray(rough).resize([int(side) for side in sides(random)], Image.Resampling.BICUBIC)
                image = image.convert("L") if kind.startswith("grey") else image
                image.save(root / split / f"c{label}" / f"{i}.{kind}")
    return root


def read(split: Split, data: DataSettings, loader: str, key: int | None, ids: np.ndarray | None = None) -> list[Batch]:
    given = data.model_copy(update=LOADERS[loader])
    ids = np.random.default_rng(1).permutation(len(split)) if ids is None else ids
    with pytest.MonkeyPatch.context() as patch:
        if loader == "plain":
            patch.setattr(feed, "dali_package", lambda: None)
        assert feed.name(split, given) == loader
        return list(feed.batches(split, ids, given, feed.Shard(0, 1, CPU, 2), 7, key))


def close(x: Tensor, other: Tensor) -> bool:
    """Whether no pixel differs by more than a level of 255."""
    return bool((x - other).abs().max() < 1.5 / 255)


def same(ours: list[Batch], theirs: list[Batch]) -> None:
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        for mine, its in zip(one, other, strict=True):
            assert mine.dtype == its.dtype
            assert mine.is_contiguous()
            assert torch.equal(mine, its)


@pytest.mark.parametrize("key", [None, 5])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("augment", ["none", "pad_crop_flip"])
@pytest.mark.parametrize("loader", ["plain", "resident"])
def test_small_images_are_the_same_by_every_loader(
    squares: Path, loader: str, augment: str, channels: int, key: int | None
) -> None:
    split, data = read_splits(squares)[0], settings(squares, 32, channels, augment)
    ours, theirs = (read(split, data, each, key) for each in (loader, "dali"))
    if channels == 1 and squares.name == "png":  # its brightness is rounded in two ways
        ours = [each._replace(x=other.x) for each, other in zip(ours, theirs, strict=True) if close(each.x, other.x)]
    same(ours, theirs)


@pytest.mark.parametrize("key", [None, 5])
def test_photographs_are_the_same_by_every_loader(photos: Path, key: int | None) -> None:
    split, data = read_splits(photos)[0], settings(photos, 24, 3, "resized_crop_flip")
    same(read(split, data, "plain", key), read(split, data, "dali", key))


@pytest.mark.parametrize("name", [*GOOD, *ODD])
@pytest.mark.parametrize("channels", [1, 3])
def test_odd_files_are_the_same_by_every_loader(tmp_path: Path, name: str, channels: int) -> None:
    for label in range(2):
        (tmp_path / "train" / f"c{label}").mkdir(parents=True)
        (tmp_path / "val" / f"c{label}").mkdir(parents=True)
        for split in ("train", "val"):
            (tmp_path / split / f"c{label}" / f"a.{name.rpartition('.')[2]}").write_bytes((GOOD | ODD)[name])
    split, data = read_splits(tmp_path)[0], settings(tmp_path, 24, channels)
    ours, theirs = (read(split, data, loader, None) for loader in ("plain", "dali"))
    apart = (ours[0].x - theirs[0].x).abs()
    assert apart.mean() < 1 / 255
    assert apart[..., 1:-1, 1:-1].max() < 2.5 / 255, "but for the edge, which DALI weighs in its own way"


@pytest.mark.parametrize(
    ("loader", "augment"), [*(("plain", each) for each in AUGMENTS), *(("resident", each) for each in AUGMENTS[:2])]
)
def test_other_sizes_and_colours_are_the_same_within_rounding(photos: Path, loader: str, augment: str) -> None:
    split = read_splits(photos)[0]
    data = settings(photos, 24, 3, augment).model_copy(update={"colour_jitter": 0.4})
    for ours, theirs in zip(read(split, data, loader, 3), read(split, data, "dali", 3), strict=True):
        assert torch.equal(ours.ids, theirs.ids)
        assert (ours.x - theirs.x).abs().mean() < 0.5 / 255
        assert (ours.x - theirs.x).abs().max() <= 4.5 / 255


def test_what_is_resident_is_decoded_once(squares: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split, data = read_splits(squares)[0], settings(squares, 32, 3, "pad_crop_flip")
    decoded: list[Tensor] = []
    small = plain.small
    monkeypatch.setattr(plain, "small", lambda *given: decoded.append(small(*given)) or decoded[-1])
    first = read(split, data, "resident", 1, np.arange(10))
    assert len(decoded) == 10
    again = read(split, data, "resident", 1)
    assert len(decoded) == len(split)
    third = read(split, data, "resident", 1)
    assert len(decoded) == len(split)
    same(third, again)
    assert torch.equal(first[0].x[3], torch.cat([each.x[each.ids == 3] for each in again])[0])


def test_another_choice_of_images_keeps_its_own(squares: Path) -> None:
    split, data = read_splits(squares)[0], settings(squares, 32)
    everything = read(split, data, "resident", None, np.arange(len(split)))
    some = read(split.at(np.array([20, 3])), data, "resident", None, np.arange(2))
    whole = torch.cat([each.x for each in everything])
    assert torch.equal(some[0].x, whole[[20, 3]])


@pytest.mark.parametrize("loader", [*LOADERS])
def test_every_loader_ends_before_the_batch_of_a_bad_image(squares: Path, loader: str) -> None:
    split, data = read_splits(squares)[0], settings(squares, 32)
    Path(split.files[9]).write_bytes(Path(split.files[9]).read_bytes()[:100])
    seen: list[Batch] = []

    def batches() -> Iterator[Batch]:
        given = data.model_copy(update=LOADERS[loader])
        yield from feed.batches(split, np.arange(24), given, feed.Shard(0, 1, CPU, 1), 4, None)

    with pytest.MonkeyPatch.context() as patch:
        if loader == "plain":
            patch.setattr(feed, "dali_package", lambda: None)
        with pytest.raises(BadImages, match="cannot be decoded") as caught:
            seen.extend(batches())
    assert [*caught.value.faults] == [9]
    assert len(seen) in (0, 2), "extend() may keep what came before, or not"


def test_small_sets_are_resident_and_large_ones_are_not(squares: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split = read_splits(squares)[0]
    auto = settings(squares, 32).model_copy(update={"resident": "auto"})
    assert feed.name(split, auto) == "resident"
    monkeypatch.setattr(resident, "BUDGET", len(split) * 3 * 32 * 32)
    assert feed.name(split, auto) == "resident"
    monkeypatch.setattr(resident, "BUDGET", len(split) * 3 * 32 * 32 - 1)
    assert feed.name(split, auto) == "dali"
    assert feed.name(split, auto.model_copy(update={"resident": True})) == "resident"


def test_a_run_is_the_same_by_every_loader(tiny: Tiny, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {}
    for loader, given in LOADERS.items():
        config = tiny(f"name={loader}", "data.augment=pad_crop_flip", f"data.resident={given['resident']}")
        with monkeypatch.context() as patch:
            if loader == "plain":
                patch.setattr(feed, "dali_package", lambda: None)
            summary = train.train(config, world)
        assert summary["loader"] == loader
        begun = next(each for each in read_events(config.folder / "events.jsonl") if each["key"] == "run_start")
        assert begun["value"]["loader"] == loader
        found[loader] = weights(config)
    for loader in ("plain", "resident"):
        assert not different(found["dali"], found[loader])


def test_without_dali_a_run_says_what_reads_its_images(
    tiny: Tiny, world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(feed, "dali_package", lambda: None)
    train.train(tiny("data.resident=false", "epochs=1"), world)
    assert "DALI is not installed: Pillow decodes the images" in capsys.readouterr().out


def test_what_memory_has_no_room_for_is_refused_at_the_start(
    tiny: Tiny, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny("data.resident=true")
    monkeypatch.setattr(machine, "free", lambda device: 100)
    with pytest.raises(UserError, match=r"data.resident: True keeps [\d,]+ bytes of images on cpu .* has 100 left"):
        train.train(config, world)
    assert not config.folder.exists()


def test_every_rank_of_a_machine_needs_the_room(squares: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split, data = read_splits(squares)[0], settings(squares, 32).model_copy(update={"resident": True})
    monkeypatch.setattr(machine, "free", lambda device: 2 * resident.needed(split, data))
    resident.check([split], data, CPU, ranks=2)
    with pytest.raises(UserError, match="3 ranks share it"):
        resident.check([split], data, CPU, ranks=3)


def test_images_of_another_size_take_the_place_of_those_before(squares: Path) -> None:
    split = read_splits(squares)[0]
    for size in (32, 24):
        (batch, *_) = read(split, settings(squares, size), "resident", None)
        assert batch.x.shape[2:] == (size, size)
    assert len(split.memory) == 1


def test_photographs_cannot_be_resident(tiny: Tiny) -> None:
    with pytest.raises(UserError, match="data.resident: with data.augment=resized_crop_flip"):
        tiny("data.resident=true", "data.augment=resized_crop_flip")
