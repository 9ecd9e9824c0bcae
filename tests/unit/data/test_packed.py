"""Packs that are read: few files are opened, and a damaged one is refused and its faults are named."""

import hashlib
import io
import json
import os
import pickle
import resource
import shutil
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpcfast.data import packed
from hpcfast.data.manifest import INDEX
from hpcfast.data.reader import read_splits
from hpcfast.datasets.packs.write import Recipe, pack
from hpcfast.errors import UserError
from tests.conftest import write_images

OPENED: list[str] = []
"""Files under a folder called ``counted``, as they are opened: a hook of Python, which cannot be taken off again."""


def count(event: str, details: tuple[Any, ...]) -> None:
    if event == "open" and "/counted/" in str(details[0]):
        OPENED.append(str(details[0]))


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 1,200 images and the pack of it."""
    root = tmp_path_factory.mktemp("many") / "counted"
    write_images(root / "folder", {"train": 550, "val": 50}, classes=2, size=4)
    pack(root / "folder", root / "pack", Recipe(256, None, 0), lambda *_: None)
    return root


@pytest.fixture
def copy(many: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(many / "pack", tmp_path / "pack"))


def test_a_pack_opens_less_than_a_hundredth_of_the_files(many: Path) -> None:
    sys.addaudithook(count)
    opened = {}
    for kind in ("folder", "pack"):
        OPENED.clear()
        for split in read_splits(many / kind):
            with ThreadPoolExecutor(4) as pool:
                assert sum(1 for data in pool.map(split.encoded, range(len(split))) if len(data)) == len(split)
        opened[kind] = len(OPENED)
    assert opened["folder"] >= 1200
    # For each split a shard and its index; the manifest, which is looked at first to tell a pack from a folder.
    assert opened["pack"] == 2 * 2 + 2
    assert opened["pack"] < 0.01 * opened["folder"]


def test_a_copy_is_read_in_the_name_of_the_pack(many: Path, copy: Path, tmp_path: Path) -> None:
    shutil.copytree(many / "pack", tmp_path / "named")
    before = [[split.encoded(3).tobytes(), split.files, split.names()] for split in read_splits(tmp_path / "named")]
    for split in ("train", "val"):
        shutil.rmtree(tmp_path / "named" / split)
    (tmp_path / "named" / "skips.txt").write_text("train/shard-000000.tar/00000005.png\tis ugly\n")
    splits = read_splits(tmp_path / "named", copy=copy)
    assert [[split.encoded(3).tobytes(), split.files, split.names()] for split in splits] == before
    assert [dict(split.skips) for split in splits] == [{5: "is ugly"}, {}]
    assert all(split.content() for split in splits)
    (copy / "val" / "shard-000000.npy").unlink()
    with pytest.raises(UserError, match=f"{copy} does not match its manifest: val/shard-000000.npy: No such file"):
        read_splits(tmp_path / "named", copy=copy)


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_files_are_closed_with_their_split(many: Path) -> None:
    before = open_files()
    train, _ = read_splits(many / "pack")
    train.encoded(0)
    assert open_files() == before + 1
    del train
    assert open_files() == before


def test_another_process_opens_its_own_files(many: Path) -> None:
    train, _ = packed.read(many / "pack")
    before = train.encoded(0)
    again = pickle.loads(pickle.dumps(train))  # as a DataLoader's worker gets it

    assert (again.encoded(0) == before).all()


def test_more_shards_than_files_may_be_open(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 4096))
    monkeypatch.setattr(resource, "setrlimit", lambda _, pair: limits.append(pair))
    packed.read(copy)
    assert limits == [(514, 4096)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 300))
    with pytest.raises(UserError, match="2 shards, but 300 open files at most; raise ulimit -n"):
        packed.read(copy)


def edit(pack: Path, **values: Any) -> None:
    path = pack / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def cut(path: Path, size: int) -> None:
    os.truncate(path, size)


def relabel(pack: Path, label: int) -> None:
    index = np.load(pack / "train" / "shard-000000.npy")
    index["label"][7] = label
    np.save(pack / "train" / "shard-000000.npy", index)


def misplace(pack: Path) -> None:
    index = np.load(pack / "val" / "shard-000000.npy")
    index["offset"][7] = 10**9
    np.save(pack / "val" / "shard-000000.npy", index)


def rename(pack: Path, suffix: bytes) -> None:
    index = np.load(pack / "val" / "shard-000000.npy")
    index["suffix"][7] = suffix
    np.save(pack / "val" / "shard-000000.npy", index)


def reindex(pack: Path, content: bytes) -> None:
    """Another index, which the manifest knows."""
    name, path = "val/shard-000000", pack / "manifest.json"
    (pack / f"{name}.npy").write_bytes(content)
    manifest = json.loads(path.read_text())
    for shard in manifest["shards"]:
        if shard["name"] == name:
            shard["npy"] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    path.write_text(json.dumps(manifest))


def header(text: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def archive() -> bytes:
    file = io.BytesIO()
    np.savez(file, np.zeros(3))
    return file.getvalue()


KIND = f"'descr': {np.lib.format.dtype_to_descr(INDEX)}, 'fortran_order': False"
DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "version": (lambda p: edit(p, version=2), "is a pack of version 2, this hpcfast reads 1; make one with"),
    "unknown key": (lambda p: edit(p, colour="blue"), "manifest.json is damaged: colour: unknown key"),
    "no shards": (lambda p: edit(p, shards=[]), "class class0 has no image"),
    "one class": (lambda p: edit(p, classes=["class0"]), "manifest.json is damaged: classes"),
    "a class too many": (lambda p: edit(p, classes=["class0", "class1", "z"]), "class z has no image"),
    "label": (lambda p: relabel(p, 2), "a label is 2, legal are 0 to 1"),
    "negative label": (lambda p: relabel(p, -1), "a label is -1, legal are 0 to 1"),
    "offset": (misplace, "an image would lie outside the shard's"),
    "suffix": (lambda p: rename(p, b"\xff\xfe"), "val/shard-000000.npy: an image would be a file of the kind"),
    "truncated": (lambda p: cut(p / "val/shard-000000.tar", 512), "val/shard-000000.tar: truncated: 512 of "),
    "huge": (lambda p: reindex(p, header(f"{{{KIND}, 'shape': (10000000000,)}}")), "is no index of"),
    "empty": (lambda p: reindex(p, header(f"{{{KIND}, 'shape': (8,)}}")), "is no index of"),
    "no header": (lambda p: reindex(p, header("[" * 5000)), "val/shard-000000.npy: "),
    "archive": (lambda p: reindex(p, archive()), "val/shard-000000.npy: "),
    "no shard": (lambda p: (p / "train/shard-000000.tar").unlink(), "train/shard-000000.tar: No such file"),
    "no index": (lambda p: (p / "train/shard-000000.npy").unlink(), "train/shard-000000.npy: No such file"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_pack_is_refused(copy: Path, damage: str) -> None:
    apply, message = DAMAGES[damage]
    apply(copy)
    with pytest.raises(UserError) as caught:
        read_splits(copy)
    assert message in str(caught.value)
    assert "hpcfast data pack" in str(caught.value)


def test_a_pack_without_faults(copy: Path) -> None:
    assert list(packed.faults(copy, quick=True)) == list(packed.faults(copy, quick=False)) == []


def test_faults_are_named(copy: Path) -> None:
    cut(copy / "train" / "shard-000000.tar", 1000)
    (copy / "train" / "shard-000000.npy").unlink()
    size = (copy / "val" / "shard-000000.tar").stat().st_size
    with (copy / "val" / "shard-000000.tar").open("r+b") as file:
        file.seek(size // 2)
        file.write(b"\xff")
    quick = dict(packed.faults(copy, quick=True))
    assert quick.keys() == {"train/shard-000000.tar", "train/shard-000000.npy"}
    assert "truncated: 1,000 of " in quick["train/shard-000000.tar"]
    found = dict(packed.faults(copy, quick=False))
    assert found == quick | {"val/shard-000000.tar": "its bytes have changed: SHA-256 is not the manifest's"}
    (copy / "manifest.json").write_text("{")
    ((name, reason),) = packed.faults(copy, quick=True)
    assert name == "manifest.json"
    assert "cannot be read" in reason


def test_an_image_in_a_shard_that_shrank_is_named(copy: Path) -> None:
    train, _ = read_splits(copy)
    cut(copy / "train" / "shard-000000.tar", 1000)
    with pytest.raises(OSError, match=r"train/shard-000000\.tar/00001099\.png: the shard ends in the middle"):
        train.encoded(1099)
