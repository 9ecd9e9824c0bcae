"""Writing: whole or not at all, in a thread, on a full disk; weights."""

import errno
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from hpcfast.config import CheckpointSettings
from hpcfast.errors import UserError
from hpcfast.models import saved
from hpcfast.runs import files
from hpcfast.runs.failures import History
from hpcfast.runs.signals import Stopped
from hpcfast.training import checkpoint
from hpcfast.training.checkpoint import Store
from tests.unit.whole_runs import save_checkpoint

pytestmark = pytest.mark.usefixtures("world")


def state(value: float) -> dict[str, Any]:
    return {"w": torch.full((5000,), float(value))}


def last(folder: Path) -> float | None:
    found = checkpoint.load_last(folder, pytest.fail)
    return found and found["w"].unique().item()


def store_in(folder: Path, asynchronous: bool, keep: int = 2) -> Store:
    return Store(folder, CheckpointSettings(asynchronous=asynchronous, keep=keep), pytest.fail)


def save(store: Store, step: int) -> None:
    store.save(step, lambda: state(step))


class Disk:
    """Stands in for ``os.fsync``: lets writes wait for ``ready``, or fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ready, self._fsync = threading.Event(), os.fsync
        self.error: OSError | None = None
        monkeypatch.setattr(os, "fsync", self.fsync)

    def fsync(self, descriptor: int) -> None:
        self.ready.wait(60)
        if self.error:
            raise self.error
        self._fsync(descriptor)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    disk = Disk(monkeypatch)
    yield disk
    disk.ready.set()


def test_training_goes_on_while_its_state_as_it_was_is_written(tmp_path: Path, disk: Disk) -> None:
    """It hangs if the save waits for the disk."""
    trained = state(1)
    with store_in(tmp_path, asynchronous=True) as store:
        store.save(1, lambda: trained)
        trained["w"] += 1
        assert last(tmp_path) is None, "nothing counts before it is on the disk"
        disk.ready.set()
    assert last(tmp_path) == 1


def test_a_synchronous_save_is_on_disk_when_it_returns(tmp_path: Path) -> None:
    save(store_in(tmp_path, asynchronous=False), 1)
    assert last(tmp_path) == 1


@pytest.mark.parametrize(
    "call",
    [
        lambda store: save(store, 2),
        lambda store: store.mark_healthy(),
        lambda store: store.wait(),
        lambda store: store.__exit__(None, None, None),
    ],
    ids=["save", "mark", "wait", "exit"],
)
def test_the_next_call_waits_and_raises_the_error_of_the_write(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch, call: Callable[[Store], None]
) -> None:
    store = store_in(tmp_path, asynchronous=True)
    disk.error = OSError(errno.EIO, "the disk is broken")
    save(store, 1)
    waited = store._finish

    def wait() -> None:
        disk.ready.set()  # not before somebody waits does the write go on
        waited()

    monkeypatch.setattr(store, "_finish", wait)
    with pytest.raises(OSError, match="the disk is broken"):
        call(store)
    disk.error = None
    save(store, 3)
    store.wait()
    assert last(tmp_path) == 3, "an error is raised once"


def test_no_second_copy_is_made_while_one_is_being_written(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, log = store_in(tmp_path, asynchronous=True), []
    copy, waited = checkpoint.serialise, store._finish

    def copied(state: dict[str, Any]) -> memoryview:
        log.append((state["w"][0].item(), last(tmp_path)))
        return copy(state)

    def wait() -> None:
        disk.ready.set()
        waited()

    monkeypatch.setattr(checkpoint, "serialise", copied)
    save(store, 1)
    monkeypatch.setattr(store, "_finish", wait)
    save(store, 2)
    store.wait()
    assert log == [(1, None), (2, 1)], "(copied, on disk by then)"


def test_what_is_marked_healthy_is_what_was_saved_before(tmp_path: Path) -> None:
    with store_in(tmp_path, asynchronous=True, keep=1) as store:
        for step in (1, 2, 3):
            save(store, step)
            store.mark_healthy()
            assert (tmp_path / "HEALTHY").read_text() == f"step-{step:08d}.pt"


def test_a_run_does_not_stop_with_a_good_checkpoint_if_that_was_not_written(tmp_path: Path, disk: Disk) -> None:
    disk.error = OSError(errno.ENOSPC, "No space left on device")
    store = store_in(tmp_path, asynchronous=True)
    save(store, 1)
    disk.ready.set()
    with pytest.raises(UserError, match="No space left"), store:
        raise Stopped


class Full:
    """Lets the disk be full at the ``call``-th write or fsync (from 1)."""

    def __init__(self, patch: pytest.MonkeyPatch, call: int, error: int) -> None:
        self.left, self.error, self.fsync = call, error, os.fsync
        for name in ("write_bytes", "write_text"):
            patch.setattr(Path, name, self.writer(getattr(Path, name)))
        patch.setattr(os, "fsync", self.synced)

    def full(self) -> bool:
        self.left -= 1
        return self.left == 0

    def writer(self, write: Callable[[Path, Any], int]) -> Callable[[Path, Any], int]:
        def wrapped(path: Path, content: Any) -> int:
            if self.full():
                write(path, content[: len(content) // 2])
                raise OSError(self.error, os.strerror(self.error))
            return write(path, content)

        return wrapped

    def synced(self, descriptor: int) -> None:
        if self.full():
            raise OSError(self.error, os.strerror(self.error))
        self.fsync(descriptor)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_leaves_the_checkpoint_before(tmp_path: Path, error: int) -> None:
    save_checkpoint(tmp_path, 1, state(1))
    checkpoint.mark_healthy(tmp_path)
    size = (tmp_path / "step-00000001.pt").stat().st_size
    call, message = 0, "?"
    while message:
        call, message = call + 1, ""
        try:
            with pytest.MonkeyPatch.context() as patch:
                Full(patch, call, error)
                save_checkpoint(tmp_path, 1, state(2))
        except UserError as caught:
            message = str(caught)
            assert f"{os.strerror(error)}: {tmp_path}/step-00000001-" in message
            assert f"needs {size:,} bytes" in message
            assert "Make room and give the same command again" in message
            assert not list(tmp_path.glob("*.part"))
            assert last(tmp_path) in (1, 2)
            assert checkpoint.load_healthy(tmp_path) is not None
    assert call == 10, "three files: written, synchronised, named durably; then none was full"
    assert last(tmp_path) == 2


def test_no_room_for_the_first_folder_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def mkdir(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", mkdir)
    with pytest.raises(UserError, match="No space left on device: .*step-00000001.pt needs .* bytes, .* are free"):
        save_checkpoint(tmp_path / "checkpoints", 1, state(1))


def test_a_really_full_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files.secrets, "token_hex", lambda size: "same")
    (tmp_path / "step-00000001.pt.same.part").symlink_to("/dev/full")
    with pytest.raises(
        UserError, match=r"No space left on device: .*step-00000001.pt needs 2\d,\d{3} bytes, .* are free"
    ):
        save_checkpoint(tmp_path, 1, state(1))
    assert last(tmp_path) is None
    assert not (tmp_path / "step-00000001.pt.same.part").is_symlink()


def test_other_errors_are_no_full_disk(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        Full(patch, 2, errno.EIO)
        with pytest.raises(OSError, match="Input/output error"):
            save_checkpoint(tmp_path, 1, state(1))
    assert last(tmp_path) is None


def test_weights_are_kept_as_safetensors(tmp_path: Path) -> None:
    weights = {"a": torch.arange(6.0).view(2, 3).T, "b": torch.tensor(3)}
    saved.save_weights(tmp_path / "w.safetensors", weights)
    loaded = saved.load_weights(tmp_path / "w.safetensors")
    assert loaded.keys() == weights.keys()
    assert all(torch.equal(loaded[name], weights[name]) for name in weights)


def test_missing_weights_say_that_the_run_is_unfinished(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no weights .*finish the run first"):
        saved.load_weights(tmp_path / "model.safetensors")


@pytest.mark.parametrize("content", [b"", b"hello", bytes(8), b"\xff" * 100])
def test_damaged_weights_are_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=r"model\.safetensors is no readable safetensors file"):
        saved.load_weights(tmp_path / "model.safetensors")


def test_checkpoints_come_in_time_or_never(tmp_path: Path) -> None:
    for minutes, due in ((0, False), (1e-9, True), (60, False)):
        assert Store(tmp_path, CheckpointSettings(minutes=minutes), pytest.fail).due == due


@pytest.mark.parametrize(
    ("past", "due"),
    [
        (History(), False),  # how long one takes is not known
        (History(checkpoints=[1.0]), False),
        (History(checkpoints=[1e-18]), True),
        (History(checkpoints=[1.0] * 20 + [1e-18] * 9), True),
        (History(failures=10**12, checkpoints=[1.0]), True),
    ],
)
def test_checkpoints_may_come_as_often_as_the_run_fails(tmp_path: Path, past: History, due: bool) -> None:
    assert Store(tmp_path, CheckpointSettings(minutes="auto"), pytest.fail, past).due == due


def test_nodes_fail_each_for_itself(tmp_path: Path) -> None:
    def every(nodes: int) -> float:
        return History(0, 0, [1.0], nodes).interval

    assert every(100) == pytest.approx(every(1) / 10, rel=0.05)
