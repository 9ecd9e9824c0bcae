"""Data sets that `hpcfast data prepare` can write."""

import gzip
import struct
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from hpcfast import component
from hpcfast.datasets.sources import Item, Source
from hpcfast.datasets.sources.digits import Digits
from hpcfast.datasets.sources.fashion_mnist import CLASSES, FashionMnist, read_idx
from hpcfast.errors import UserError

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def idx(values: np.ndarray, magic: tuple[int, int, int] = (0, 0, 8)) -> bytes:
    return bytes([*magic, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """Fashion-MNIST's four files with 20 and 10 tiny images."""
    for name in FILES:
        labels = np.arange(20 if name.startswith("train") else 10, dtype=np.uint8) % 10
        images = labels[:, None, None].repeat(3, 1).repeat(3, 2) * 20
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(idx(images if "images" in name else labels)))
    return tmp_path


@pytest.fixture(scope="module")
def digits() -> list[Item]:
    return list(Digits(name="digits").items())


def test_every_source_is_found_by_its_files_name() -> None:
    names = component.names("hpcfast.datasets.sources")
    assert {"digits", "fashion_mnist"} <= set(names)
    for name in names:
        assert issubclass(component.find("hpcfast.datasets.sources", name), Source)


def test_digits_are_1437_and_360_images_of_28_pixels(digits: list[Item]) -> None:
    assert Counter(item.split for item in digits) == {"train": 1437, "val": 360}
    assert {item.image.size for item in digits} == {(28, 28)}
    assert {item.image.mode for item in digits} == {"L"}


def test_digits_have_each_class_in_the_same_share_of_both_splits(digits: list[Item]) -> None:
    counts = Counter((item.split, item.label) for item in digits)
    for label in map(str, range(10)):
        everywhere = counts["train", label] + counts["val", label]
        assert abs(counts["val", label] - everywhere * 360 / 1797) <= 1, f"digit {label}: {counts['val', label]}"


def test_digits_are_scikit_learns_and_none_is_in_both_splits(digits: list[Item]) -> None:
    images, labels = load_digits(return_X_y=True)
    assert Counter(item.label for item in digits) == Counter(map(str, labels))
    small = Counter(image.tobytes() for image in np.rint(images * 255 / 16).astype(np.uint8))
    assert len({item.image.tobytes() for item in digits}) == len(small)


def test_digits_are_the_same_each_time(digits: list[Item]) -> None:
    again = Digits(name="digits").items()
    assert all(
        (a.split, a.label, a.image.tobytes()) == (b.split, b.label, b.image.tobytes())
        for a, b in zip(digits, again, strict=True)
    )


def test_fashion_mnist_is_read_from_its_files(published: Path) -> None:
    items = list(FashionMnist(name="fashion_mnist", source=published).items())
    assert Counter(item.split for item in items) == {"train": 20, "val": 10}
    for item in items:
        number, name = item.label.split("-", 1)
        assert name == CLASSES[int(number)]
        assert np.asarray(item.image).tolist() == [[20 * int(number)] * 3] * 3


def test_fashion_mnist_is_read_uncompressed_too(published: Path) -> None:
    for file in published.glob("*.gz"):
        file.with_suffix("").write_bytes(gzip.decompress(file.read_bytes()))
        file.unlink()
    assert len(list(FashionMnist(name="fashion_mnist", source=published).items())) == 30


def test_fashion_mnist_without_a_source_says_where_to_get_it() -> None:
    with pytest.raises(UserError, match="needs --source, .*apt install dataset-fashion-mnist"):
        next(FashionMnist(name="fashion_mnist").items())


@pytest.mark.parametrize("name", FILES)
def test_fashion_mnist_names_the_file_it_lacks(published: Path, name: str) -> None:
    (published / f"{name}.gz").unlink()
    with pytest.raises(UserError, match=f"no {name} or {name}.gz there"):
        list(FashionMnist(name="fashion_mnist", source=published).items())


def test_fashion_mnist_refuses_more_images_than_labels(published: Path) -> None:
    (published / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.zeros(19, np.uint8))))
    with pytest.raises(UserError, match="20.*19|19.*20"):
        list(FashionMnist(name="fashion_mnist", source=published).items())


def test_fashion_mnist_refuses_files_without_images(published: Path) -> None:
    for kind, shape in (("images-idx3", (0, 3, 3)), ("labels-idx1", (0,))):
        (published / f"train-{kind}-ubyte.gz").write_bytes(gzip.compress(idx(np.zeros(shape, np.uint8))))
    with pytest.raises(UserError, match="train has 0 images and 0 labels"):
        list(FashionMnist(name="fashion_mnist", source=published).items())


@pytest.mark.parametrize("shape", [(5,), (2, 3), (4, 3, 2)])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_files_of_any_shape_are_read(tmp_path: Path, shape: tuple[int, ...], suffix: str) -> None:
    values = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    path = tmp_path / f"values{suffix}"
    path.write_bytes(gzip.compress(idx(values)) if suffix else idx(values))
    assert np.array_equal(read_idx(path), values)


VALUES = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
DAMAGED = {
    "empty": b"",
    "header-cut": idx(VALUES)[:9],
    "values-cut": idx(VALUES)[:-1],
    "values-surplus": idx(VALUES) + b"x",
    "wrong-type": idx(VALUES, (0, 0, 9)),
    "wrong-magic": idx(VALUES, (1, 0, 8)),
    "text": b"not an idx file at all, but long enough to look at",
}


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED)
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_damaged_idx_file_is_refused_by_name(tmp_path: Path, data: bytes, suffix: str) -> None:
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(gzip.compress(data) if suffix else data)
    with pytest.raises(UserError, match=r"broken.* is no whole IDX file of bytes"):
        read_idx(path)


@pytest.mark.parametrize("damage", [lambda d: d[:-9], lambda d: d[:12] + b"\xff" * 8 + d[20:], lambda d: b"no" + d])
def test_a_damaged_gzip_file_is_refused_by_name(tmp_path: Path, damage: object) -> None:
    path = tmp_path / "broken.gz"
    path.write_bytes(damage(gzip.compress(idx(VALUES))))  # type: ignore[operator]
    with pytest.raises(UserError, match=r"broken.gz is no whole IDX file"):
        read_idx(path)


def test_a_missing_idx_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere.gz"):
        read_idx(tmp_path / "nowhere.gz")


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="apt install dataset-fashion-mnist")
@pytest.mark.parametrize(("prefix", "count"), [("train", 60_000), ("t10k", 10_000)])
def test_debians_fashion_mnist_has_all_images_in_equal_classes(prefix: str, count: int) -> None:
    images = read_idx(DEBIAN / f"{prefix}-images-idx3-ubyte.gz")
    labels = read_idx(DEBIAN / f"{prefix}-labels-idx1-ubyte.gz")
    assert images.shape == (count, 28, 28)
    assert np.bincount(labels).tolist() == [count // 10] * 10
