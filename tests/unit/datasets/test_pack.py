"""Packs: what is written, that it does not depend on who writes it, and that killed work goes on."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hpcfast.data import manifest, packed
from hpcfast.data.reader import read_splits
from hpcfast.data.split import Split
from hpcfast.datasets.packs import write
from hpcfast.datasets.packs.write import Recipe, pack, shrunk
from hpcfast.errors import UserError
from tests.conftest import write_images

PLAIN = Recipe(shard_mb=1, short_side=None, seed=0)


def ignore(*_: int) -> None:
    pass


def files(place: Path) -> dict[str, bytes]:
    return {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}


def content(split: Split) -> Counter[tuple[bytes, str]]:
    return Counter((split.encoded(i).tobytes(), split.classes[split.labels[i]]) for i in split.good)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of noise that fills several shards of a million bytes."""
    root = tmp_path_factory.mktemp("large")
    rng = np.random.default_rng(0)
    for i in range(40):
        place = root / ("val" if i < 4 else "train") / f"class{i % 2}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (180, 200, 3), np.uint8)).save(place / f"{i}.png", compress_level=0)
    return root


@pytest.fixture(scope="module")
def made(large: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made") / "pack"
    done: list[tuple[int, int]] = []
    pack(large, out, PLAIN, lambda *progress: done.append(progress))
    assert [progress[0] for progress in done] == [9, 18, 27, 36, 40]
    assert {progress[1] for progress in done} == {40}
    return out


def test_the_same_images_and_labels_come_back(large: Path, made: Path) -> None:
    for source, copy in zip(read_splits(large), read_splits(made), strict=True):
        assert isinstance(copy, packed.PackedSplit)
        assert content(copy) == content(source)
        assert copy.classes == source.classes
        assert copy.files == sorted(copy.files)


def test_any_tar_program_reads_a_shard(large: Path, made: Path) -> None:
    train, _ = read_splits(made)
    for path in sorted((made / "train").glob("*.tar")):
        with tarfile.open(path) as tar:
            members = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
        for name in members:
            key, suffix = name.split(".")
            label = int(train.labels[int(key)])
            expected = train.encoded(int(key)).tobytes() if suffix == "png" else str(label).encode()
            assert members[name] == expected
            assert f"{key}.png" in members


def test_classes_are_mixed_and_shards_are_of_one_size(made: Path) -> None:
    described = manifest.read(made)
    assert [shard.images for shard in described.shards] == [9, 9, 9, 9, 4]
    assert all(0.9e6 < shard.tar.bytes < 1.1e6 for shard in described.of("train"))
    labels = read_splits(made)[0].labels
    assert not np.array_equal(labels, np.sort(labels))


def test_some_images_of_a_pack(made: Path) -> None:
    train, _ = read_splits(made)
    some = train.some(5)
    assert [some.encoded(i).tobytes() for i in range(5)] == [train.encoded(i).tobytes() for i in (0, 7, 14, 21, 28)]


def test_a_pack_can_be_packed_again_and_another_seed_gives_another_order(
    made: Path, large: Path, tmp_path: Path
) -> None:
    pack(made, tmp_path / "again", Recipe(1, None, 1), ignore)
    again, source = read_splits(tmp_path / "again")[0], read_splits(large)[0]
    assert content(again) == content(source)
    assert not np.array_equal(again.labels, read_splits(made)[0].labels)


def test_a_finished_pack_is_left_and_another_one_refused(large: Path, made: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*")}
    pack(large, made, PLAIN, ignore)
    assert {path: path.stat().st_mtime_ns for path in made.rglob("*")} == before
    with pytest.raises(UserError, match="is not a pack of these .*made with other seed, shard_mb"):
        pack(large, made, Recipe(2, None, 1), ignore)
    with pytest.raises(UserError, match="exists and is not a pack"):
        pack(large, large, PLAIN, ignore)


KILLED = """
import os, signal, sys
from pathlib import Path
from hpcfast.datasets.packs.write import Recipe, pack
data, out = map(Path, sys.argv[1:])
pack(data, out, Recipe(1, None, 0), lambda *_: os.kill(os.getpid(), signal.SIGKILL))
"""


def test_a_killed_pack_goes_on(large: Path, made: Path, tmp_path: Path) -> None:
    out, half = tmp_path / "pack", tmp_path / "pack.part"
    done = subprocess.run([sys.executable, "-c", KILLED, large, out], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done
    assert not out.exists()
    (half / "train" / "shard-000001.tar.0f1e2d3c.part").write_bytes(b"what a kill leaves")
    inode = (half / "train" / "shard-000000.tar").stat().st_ino
    with pytest.raises(UserError, match=r"pack\.part exists and is not .*made with other seed"):
        pack(large, out, Recipe(1, None, 1), ignore)
    pack(large, out, PLAIN, ignore)
    assert files(out) == files(made)
    assert (out / "train" / "shard-000000.tar").stat().st_ino == inode, "done before, done again"
    assert not half.exists()


def test_skipped_images_are_left_out_and_counted(images: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(images, tmp_path / "data"))
    (data / "train" / "class1" / "003.png").write_bytes(b"")
    (data / "skips.txt").write_text("train/class1/003.png\tempty\n")
    described = pack(data, tmp_path / "pack", PLAIN, ignore)
    assert described["left_out"] == {"train": 1, "val": 0}
    assert len(read_splits(tmp_path / "pack")[0]) == 23


def test_a_class_may_have_any_name_that_a_file_system_takes(tmp_path: Path) -> None:
    write_images(tmp_path / "odd", {"train": 2, "val": 1}, classes=2)
    for split in ("train", "val"):
        (tmp_path / "odd" / split / "class1").rename(tmp_path / "odd" / split / "a\tb")
    pack(tmp_path / "odd", tmp_path / "pack", PLAIN, ignore)
    assert read_splits(tmp_path / "pack")[0].classes == ("a\tb", "class0")


def test_an_image_that_cannot_be_read_is_named(images: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(images, tmp_path / "data"))
    bad = data / "val" / "class1" / "003.png"
    bad.write_bytes(b"")
    with pytest.raises(UserError, match=r"val/class1/003\.png cannot be read: it is empty.*hpcfast data verify"):
        pack(data, tmp_path / "pack", PLAIN, ignore)
    bad.write_bytes(b"text")
    with pytest.raises(UserError, match=r"val/class1/003\.png cannot be read: it begins with b'text'"):
        pack(data, tmp_path / "pack", PLAIN, ignore)


def test_a_full_disk_is_one_message(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(write, "_add", full)
    with pytest.raises(UserError, match=r"/pack cannot be written: .*No space left.*what is done is kept"):
        pack(images, tmp_path / "pack", PLAIN, ignore)
    assert [path.name for path in tmp_path.rglob("*.part")] == ["pack.part"]


def jpeg(size: tuple[int, int], **how: Any) -> bytes:
    ramp = np.linspace(0, 255, size[0])[None, :, None] * np.ones((size[1], 1, 3))
    out = io.BytesIO()
    Image.fromarray(ramp.astype(np.uint8)).convert(how.pop("mode", "RGB")).save(out, "JPEG", quality=95, **how)
    return out.getvalue()


@pytest.mark.parametrize(("size", "expected"), [((400, 200), (80, 40)), ((200, 401), (40, 80)), ((41, 41), (40, 40))])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_large_images_are_resized(size: tuple[int, int], expected: tuple[int, int], mode: str) -> None:
    small = shrunk(jpeg(size, mode=mode), 40)
    assert small is not None
    with Image.open(io.BytesIO(small)) as image:
        assert (image.format, image.size, image.mode) == ("JPEG", expected, "L" if mode == "L" else "RGB")
        reference = np.linspace(0, 255, expected[0])
        assert np.abs(np.asarray(image.convert("L"), float).mean(0) - reference)[2:-2].max() < 4


def test_small_images_are_left_alone_and_turned_ones_stand_upright() -> None:
    assert shrunk(jpeg((40, 90)), 40) is None
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held on its side
    turned = shrunk(jpeg((80, 160), exif=exif), 40)
    assert turned is not None
    with Image.open(io.BytesIO(turned)) as image:
        assert image.size == (80, 40)
        assert not image.getexif()


def test_a_resized_pack(large: Path, tmp_path: Path) -> None:
    pack(large, tmp_path / "small", Recipe(1, 20, 0), ignore)
    train, val = read_splits(tmp_path / "small")
    assert (len(train), len(val)) == (36, 4)
    assert all(file.endswith(".jpg") for file in train.files)
    with Image.open(io.BytesIO(val.encoded(0).tobytes())) as image:
        assert image.size == (22, 20)
    resize = json.loads((tmp_path / "small" / "manifest.json").read_text())["resize"]
    assert (resize["short_side"], resize["method"]) == (20, "Lanczos, JPEG quality 95")


def test_a_class_that_is_no_utf_8_is_refused_with_the_cure(tmp_path: Path) -> None:
    write_images(tmp_path / "odd", {"train": 1, "val": 1}, classes=2)
    for split in ("train", "val"):
        (tmp_path / "odd" / split / "class1").rename(tmp_path / "odd" / split / os.fsdecode(b"image\xe9"))
    with pytest.raises(UserError, match=r"class folder image\\xe9 has a name that a pack cannot hold; rename it"):
        pack(tmp_path / "odd", tmp_path / "pack", PLAIN, ignore)
