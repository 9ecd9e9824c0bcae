"""Copies of a pack, on the one node that a test is (tests/distributed/test_packs.py has two)."""

import fcntl
import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from hpcfast.data.reader import read_splits
from hpcfast.datasets.packs import stage
from hpcfast.datasets.packs.write import Recipe, pack
from hpcfast.distributed.comm import World
from hpcfast.errors import UserError

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's folder")


@pytest.fixture
def made(images: Path, world: World, tmp_path: Path) -> Path:
    pack(images, tmp_path / "pack", Recipe(1, None, 0), lambda *_: None)
    return tmp_path / "pack"


@pytest.fixture
def copied(
    made: Path, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], dict[str, object]]:
    monkeypatch.setenv(stage.VARIABLE, "here")
    monkeypatch.setattr(stage, "CHUNK", 1000)  # several a file
    return lambda: stage.stage(made, tmp_path / "{node}" / "copy", world, lambda _: None)


def files(place: Path) -> dict[str, bytes]:
    return {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}


def test_a_copy_is_equal_and_nothing_is_read_again(made: Path, tmp_path: Path, copied: Callable[..., dict]) -> None:
    size = sum(len(data) for name, data in files(made).items() if name != "manifest.json")
    assert copied() == {"nodes": ["here"], "shards": 2, "bytes": size, "bytes_read": size}
    assert files(tmp_path / "here" / "copy") == files(made)
    assert len(read_splits(tmp_path / "here" / "copy")[0]) == 24
    assert copied()["bytes_read"] == 0


def test_only_what_is_missing_is_read(made: Path, tmp_path: Path, copied: Callable[..., dict]) -> None:
    half = tmp_path / "here" / "copy.part"
    shutil.copytree(made, half)
    (half / "val" / "shard-000000.tar").rename(half / "val" / "shard-000000.tar.0f1e2d3c.part")
    assert copied()["bytes_read"] == (made / "val" / "shard-000000.tar").stat().st_size
    assert files(tmp_path / "here" / "copy") == files(made)


def plants(what: str, place: Path, tmp_path: Path) -> None:
    """What another user may have left where the copy is to be."""
    place.parent.mkdir(exist_ok=True)
    if what == "link":
        (tmp_path / "home").mkdir()
        place.symlink_to(tmp_path / "home")
    else:
        place.mkdir()
        place.chmod(0o777 if what == "open" else 0o755)
    if what == "other's":
        os.chown(place, 12345, -1)


@pytest.mark.parametrize("what", ["link", "open", pytest.param("other's", marks=root_only)])
@pytest.mark.parametrize("name", ["copy", "copy.part"])
def test_what_another_user_has_left_is_not_taken(
    what: str, name: str, tmp_path: Path, copied: Callable[..., dict]
) -> None:
    plants(what, tmp_path / "here" / name, tmp_path)
    with pytest.raises(UserError, match=rf"{name}: on node here this is another user's, a link, or writable by all"):
        copied()
    assert not any((tmp_path / "here" / name).iterdir())


@pytest.mark.parametrize("name", [".copy.lock", ".copy.staged-by-here"])
@pytest.mark.parametrize("there", [True, False])
def test_a_link_that_another_user_has_left_is_not_written_through(
    there: bool, name: str, tmp_path: Path, copied: Callable[..., dict]
) -> None:
    precious = tmp_path / "thesis.tex"
    if there:
        precious.write_text("ten years")
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / name).symlink_to(precious)
    with suppress(UserError):
        copied()
    assert precious.read_text() == "ten years" if there else not precious.exists()


@pytest.mark.parametrize("what", ["link", "open", pytest.param("other's", marks=root_only)])
def test_a_shared_disk_has_a_folder_of_the_users_own(what: str, tmp_path: Path) -> None:
    folder = stage.own_folder(tmp_path / "scratch", "data.stage")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert stage.own_folder(tmp_path / "scratch", "data.stage") == folder
    folder.chmod(0o775)  # as an earlier version made it
    assert stage.own_folder(tmp_path / "scratch", "data.stage").stat().st_mode & 0o777 == 0o700
    plants(what, tmp_path / "disk" / folder.name, tmp_path)
    with pytest.raises(UserError, match="data.stage .* is another user's, a link, or writable by all"):
        stage.own_folder(tmp_path / "disk", "data.stage")


def test_the_users_umask_does_not_matter(tmp_path: Path, copied: Callable[..., dict]) -> None:
    before = os.umask(0)
    try:
        assert copied()["nodes"] == ["here"]
    finally:
        os.umask(before)


def test_a_file_where_the_disk_should_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "disk").touch()
    with pytest.raises(UserError, match="disk.* cannot be written"):
        stage.own_folder(tmp_path / "disk", "data.stage")


def test_changed_bytes_do_not_arrive(made: Path, tmp_path: Path, copied: Callable[..., dict]) -> None:
    shard = made / "train" / "shard-000000.tar"
    data = bytearray(shard.read_bytes())
    data[5000] ^= 255
    shard.write_bytes(data)
    with pytest.raises(UserError, match=r"train/shard-000000\.tar: other bytes arrived on node here than"):
        copied()
    assert not list((tmp_path / "here" / "copy.part" / "train").glob("*.tar*"))
    os.truncate(shard, 5000)
    with pytest.raises(UserError, match=r"train/shard-000000\.tar: truncated: 5,000 of"):
        copied()


def test_a_file_that_vanishes_is_named(
    made: Path, copied: Callable[..., dict], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage.packed, "faults", lambda *_, **__: iter(()))  # it was there when the command began
    (made / "val" / "shard-000000.npy").unlink()
    with pytest.raises(UserError, match=r"copy cannot be written: .*No such file.*val/shard-000000\.npy"):
        copied()


def test_other_folders_are_refused(made: Path, images: Path, world: World, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="exists and is not a copy of this pack"):
        stage.stage(made, images, world, lambda _: None)
    (tmp_path / "copy.part").mkdir()
    (tmp_path / "copy.part" / "mine.txt").touch()
    with pytest.raises(UserError, match=r"copy\.part exists and is not a copy"):
        stage.stage(made, tmp_path / "copy", world, lambda _: None)
    with pytest.raises(UserError, match=r"manifest\.json cannot be read: .*Is .* a pack"):
        stage.stage(images, tmp_path / "other", world, lambda _: None)


def test_a_folder_that_cannot_be_made_is_named(made: Path, world: World, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file cannot be written: .*Give a folder on a disk with room"):
        stage.stage(made, tmp_path / "file" / "copy", world, lambda _: None)


def test_a_disk_that_nodes_share_is_refused(
    made: Path, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(stage.VARIABLE, "a")
    nodes = [(name, tmp_path / "to") for name in ("a", "b")]
    monkeypatch.setattr(stage.comm, "gather", lambda value: nodes if value == nodes[0] else [value])
    (tmp_path / ".to.staged-by-b").touch()  # what node b has just done
    with pytest.raises(UserError, match="TO .*: nodes a, b share this folder.*into TO$"):
        stage.stage(made, tmp_path / "to", world, lambda _: None)
    assert not (tmp_path / ".to.staged-by-a").exists()


def test_another_job_on_the_node_may_finish_the_copy_first(
    made: Path, tmp_path: Path, copied: Callable[..., dict], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    with (tmp_path / "here" / ".copy.lock").open("w") as lock, ThreadPoolExecutor(1) as other:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiting = other.submit(copied)
        while not (tmp_path / "here" / ".copy.staged-by-here").exists():
            time.sleep(0.01)
        time.sleep(0.1)
        assert not list((tmp_path / "here").glob("copy*")), "it would remove what the other job is writing"
        shutil.copytree(made, tmp_path / "here" / "copy")
        fcntl.flock(lock, fcntl.LOCK_UN)
        assert waiting.result(10)["bytes_read"] == 0


def test_ranks_of_a_node_may_have_disks_of_their_own(
    made: Path, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(stage.VARIABLE, "a")
    places = [("a", tmp_path / "first"), ("a", tmp_path / "own")]
    monkeypatch.setattr(stage.comm, "gather", lambda value: places if value in places else [value])
    assert stage.stage(made, tmp_path / "own", replace(world, rank=1, size=2), lambda _: None)["nodes"] == ["a"]
    assert files(tmp_path / "own") == files(made)


def test_a_full_disk_is_refused_before_anything_is_read(
    copied: Callable[..., dict], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 9, 0))  # type: ignore[attr-defined]
    monkeypatch.setattr(stage, "hashed", None)
    with pytest.raises(UserError, match=r"node here: 0\.\d MB are needed in .*, 0\.0 MB are free; .*another TO$"):
        copied()
