"""ImageNet and Restricted ImageNet from what is published, in miniature."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from hpcfast.data.reader import read_splits
from hpcfast.datasets.prepare import prepare
from hpcfast.datasets.sources import imagenet
from hpcfast.datasets.sources.imagenet import Imagenet
from hpcfast.datasets.sources.restricted_imagenet import RANGES, RestrictedImagenet
from hpcfast.errors import UserError
from tests.unit.archives import TRUTH, WNIDS, imagenet_archives, imagenet_folders, tar, train_images, val_images


def ignore(done: int) -> None:
    """No progress is shown."""


def make(source: Path, out: Path) -> dict[str, bytes]:
    """Prepare ImageNet; return its images."""
    prepare(Imagenet(name="imagenet", source=source), out, ignore)
    train, val = read_splits(out)
    return {file.removeprefix(f"{out}/"): Path(file).read_bytes() for file in [*train.files, *val.files]}


@pytest.fixture
def expected() -> dict[str, bytes]:
    train = {f"train/{w}/{name}": data for w, files in train_images().items() for name, data in files.items()}
    labels = [WNIDS[number - 1] for number in TRUTH]
    val = {f"val/{w}/{name}": data for w, (name, data) in zip(labels, val_images().items(), strict=True)}
    return train | val


@pytest.mark.parametrize("publish", [imagenet_archives, imagenet_folders])
def test_images_go_to_their_classes_as_they_are(
    tmp_path: Path, expected: dict[str, bytes], publish: Callable[[Path], Path]
) -> None:
    (tmp_path / "source").mkdir()
    assert make(publish(tmp_path / "source"), tmp_path / "out") == expected


def test_folders_are_linked_to(tmp_path: Path) -> None:
    make(imagenet_folders(tmp_path / "source"), tmp_path / "out")
    assert (tmp_path / "out" / "train" / WNIDS[0]).readlink() == tmp_path / "source" / "train" / WNIDS[0]
    assert all(file.is_symlink() for file in (tmp_path / "out" / "val").glob("*/*"))


def test_validation_images_sorted_by_others_need_no_devkit(tmp_path: Path, expected: dict[str, bytes]) -> None:
    make(imagenet_folders(tmp_path / "source"), tmp_path / "sorted")
    shutil.rmtree(tmp_path / "source" / imagenet.DEVKIT)
    shutil.copytree(tmp_path / "sorted" / "val", tmp_path / "source" / "val2")
    shutil.rmtree(tmp_path / "source" / "val")
    (tmp_path / "source" / "val2").rename(tmp_path / "source" / "val")
    assert make(tmp_path / "source", tmp_path / "out") == expected


def test_without_a_devkit_they_have_no_classes(tmp_path: Path) -> None:
    imagenet_folders(tmp_path / "source")
    shutil.rmtree(tmp_path / "source" / imagenet.DEVKIT)
    with pytest.raises(UserError, match=r"the validation images have no classes; .*devkit_t12\.tar\.gz, .* is missing"):
        make(tmp_path / "source", tmp_path / "out")


def test_what_an_earlier_source_was_linked_to_is_not_written_to(tmp_path: Path, expected: dict[str, bytes]) -> None:
    def stop(done: int) -> None:
        if done == 10:
            raise KeyboardInterrupt

    first = imagenet_folders(tmp_path / "first")
    for file in first.rglob("*.JPEG"):
        file.write_bytes(file.read_bytes() + b"other")
    before = {file: file.read_bytes() for file in first.rglob("*.JPEG")}
    with pytest.raises(KeyboardInterrupt):
        prepare(Imagenet(name="imagenet", source=first), tmp_path / "out", stop)
    assert (tmp_path / "out.part" / "train").exists()
    assert make(imagenet_archives(tmp_path), tmp_path / "out") == expected
    assert {file: file.read_bytes() for file in first.rglob("*.JPEG")} == before


def test_a_killed_preparation_goes_on(tmp_path: Path, expected: dict[str, bytes]) -> None:
    def stop(done: int) -> None:
        if done == 9:
            raise KeyboardInterrupt

    source = Imagenet(name="imagenet", source=imagenet_archives(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        prepare(source, tmp_path / "out", stop)
    part = tmp_path / "out.part"
    kept, torn = sorted((part / "val").glob("*/*"))[:2]
    torn.write_bytes(torn.read_bytes()[:100])
    inode, time = kept.stat().st_ino, kept.stat().st_mtime_ns
    assert make(tmp_path, tmp_path / "out") == expected
    done = tmp_path / "out" / kept.relative_to(part)
    assert (done.stat().st_ino, done.stat().st_mtime_ns) == (inode, time), "done before, done again"


def cut(path: Path, keep: int = 600) -> None:
    path.write_bytes(path.read_bytes()[:keep])  # by default in the middle of the first file


def lose_class(source: Path) -> None:
    shutil.rmtree(source / "train" / WNIDS[1])


FAULTS: dict[str, tuple[Callable[[Path], Path], Callable[[Path], object], str]] = {
    "train cut": (imagenet_archives, lambda s: cut(s / imagenet.TRAIN), r"train\.tar is damaged"),
    "val cut": (imagenet_archives, lambda s: cut(s / imagenet.VAL), r"val\.tar is damaged"),
    "val short": (
        imagenet_archives,
        lambda s: tar(s / imagenet.VAL, dict(list(val_images().items())[:4])),
        r"4 validation images, 6 in the devkit; fetch ILSVRC2012_img_val\.tar again",
    ),
    "train short": (
        imagenet_archives,
        lambda s: tar(s / imagenet.TRAIN, {}),
        r"train has 0 classes and val 3, only in one of them n01000000, n02000000",
    ),
    "devkit cut": (
        imagenet_archives,
        lambda s: cut(s / f"{imagenet.DEVKIT}.tar.gz", 200),
        r"devkit_t12\.tar\.gz, which has them, is missing there or damaged",
    ),
    "no devkit file": (imagenet_folders, lambda s: (s / imagenet.DEVKIT / imagenet.META).unlink(), r"damaged \(.*meta"),
    "unknown class": (
        imagenet_folders,
        lambda s: (s / imagenet.DEVKIT / imagenet.TRUTH).write_text("2\n3\n1\n2\n1\n7\n"),
        r"damaged \(KeyError: 7\)",
    ),
    "foreign image": (
        imagenet_folders,
        lambda s: (s / "val" / "holiday.JPEG").write_bytes(b"x"),
        r"holiday\.JPEG is none of the 6 validation images",
    ),
    "a class less": (imagenet_folders, lose_class, r"train has 2 classes and val 3, only in one of them n01000000"),
    "nothing": (imagenet_folders, shutil.rmtree, r"data prepare imagenet needs --source"),
    "no val": (imagenet_folders, lambda s: shutil.rmtree(s / "val"), r"neither ILSVRC2012_img_val\.tar nor val/"),
}


@pytest.mark.parametrize(("publish", "damage", "message"), FAULTS.values(), ids=FAULTS)
def test_what_is_not_whole_is_refused(
    tmp_path: Path, publish: Callable[[Path], Path], damage: Callable[[Path], object], message: str
) -> None:
    (tmp_path / "source").mkdir()
    damage(publish(tmp_path / "source"))
    with pytest.raises(UserError, match=message):
        make(tmp_path / "source", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def thousand(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of 1,000 classes, with an image each, named by the class's place; don't write into it."""
    root = tmp_path_factory.mktemp("imagenet")
    for split in ("train", "val"):
        for i in range(1000):
            wnid = f"n{i:08d}"
            (root / split / wnid).mkdir(parents=True)
            (root / split / wnid / (f"{wnid}_7.JPEG" if split == "train" else "a.JPEG")).write_text(str(i))
    return root


def restricted(source: Path | None, out: Path) -> None:
    prepare(RestrictedImagenet(name="restricted_imagenet", source=source), out, ignore)


def test_the_nine_super_classes_are_ranges_of_imagenets(thousand: Path, tmp_path: Path) -> None:
    restricted(thousand, tmp_path / "out")
    for split in read_splits(tmp_path / "out"):
        places: dict[str, list[int]] = {name: [] for name in split.classes}
        for file, label in zip(split.files, split.labels, strict=True):
            assert Path(file).is_symlink()
            places[split.classes[label]].append(int(Path(file).read_text()))
        assert places == {name: list(range(first, last + 1)) for name, (first, last) in RANGES.items()}
    names = {path.name for path in (tmp_path / "out").glob("*/2-frog/*")}
    assert names == {f"n{i:08d}_{end}.JPEG" for i in (30, 31, 32) for end in ("7", "a")}


def test_the_ranges_are_those_published() -> None:
    sizes = {name.partition("-")[2]: last - first + 1 for name, (first, last) in RANGES.items()}
    assert sizes == {"dog": 118, "cat": 5, "frog": 3, "turtle": 5, "bird": 21, "monkey": 18, "fish": 9, "crab": 4,
                     "insect": 20}  # fmt: skip
    assert list(RANGES) == sorted(RANGES)


def test_what_is_not_imagenet_has_no_super_classes(images: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="train has 3 class folders; ImageNet has 1000.*data prepare imagenet"):
        restricted(images, tmp_path / "out")
    with pytest.raises(UserError, match="restricted-imagenet needs --source, an ImageNet folder"):
        restricted(None, tmp_path / "out")
