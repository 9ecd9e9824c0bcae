"""Checkpoints: whole or not at all, refused when damaged, and never code."""

import hashlib
import io
from pathlib import Path
from typing import Any

import pytest
import torch

from hpcfast.errors import UserError
from hpcfast.training import checkpoint
from tests.unit.whole_runs import save_checkpoint


def state(value: float = 1.0) -> dict[str, Any]:
    return {"model": {"w": torch.full((50,), value)}, "optimizer": {"state": {0: {"m": None}}}, "step": 3, "s": 0.5}


class Bomb:
    """An object whose unpickling leaves a trace."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return Path.touch, (self.trace,)


def saved(folder: Path, *steps: int, healthy: int | None = None) -> None:
    """Checkpoints whose weights are their step."""
    for step in steps:
        save_checkpoint(folder, step, state(step), keep=5)
        if step == healthy:
            checkpoint.mark_healthy(folder)


def forge(path: Path, content: bytes) -> None:
    """Put other bytes into a checkpoint, with the checksum that belongs to them."""
    path.write_bytes(content)
    Path(f"{path}.sha256").write_text(f"{hashlib.sha256(content).hexdigest()}  {path.name}\n")


def pickled(thing: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(thing, buffer)
    return buffer.getvalue()


def loaded(folder: Path) -> tuple[float | None, list[str]]:
    """The step that is gone on from, and what was said."""
    said: list[str] = []
    found = checkpoint.load_last(folder, said.append)
    return found and found["model"]["w"].unique().item(), said


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "checkpoints", 3, state())
    found = checkpoint.load_last(tmp_path / "checkpoints")
    assert found is not None
    assert torch.equal(found["model"].pop("w"), state()["model"]["w"])
    assert found == {**state(), "model": {}, "format": 1}


def test_nothing_is_loaded_where_nothing_was_saved(tmp_path: Path) -> None:
    for folder in (tmp_path / "none", tmp_path):
        assert loaded(folder) == (None, [])
        assert checkpoint.load_healthy(folder) is None
        assert not checkpoint.is_healthy(folder)


def test_last_names_the_newest_and_as_many_as_wanted_are_kept(tmp_path: Path) -> None:
    for step in (5, 10, 99_999_999, 100_000_000):
        save_checkpoint(tmp_path, step, state(step), keep=2)
        assert loaded(tmp_path) == (step, [])
    names = ["step-100000000.pt", "step-99999999.pt"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "LAST",
        *(n + s for n in names for s in ("", ".sha256")),
    ]
    assert (tmp_path / "LAST").read_text() == "step-100000000.pt"
    save_checkpoint(tmp_path, 100_000_001, state(), keep=1)
    assert [path.name for path in tmp_path.glob("*.pt")] == ["step-100000001.pt"]


def test_other_peoples_files_stay(tmp_path: Path) -> None:
    names = ["step-00000001.pt.bak", "step-mine.pt", "notes"]
    for name in names:
        (tmp_path / name).write_text("")
    (tmp_path / "step-00000001.pt.0f1e2d3c.part").write_text("a write that was killed")
    saved(tmp_path, 1, 2, 3)
    save_checkpoint(tmp_path, 4, state(4), keep=1)
    expected = ["LAST", "step-00000004.pt", "step-00000004.pt.sha256", *names]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(expected)


def test_the_healthy_one_stays_until_another_is_marked(tmp_path: Path) -> None:
    saved(tmp_path, 1, healthy=1)
    assert checkpoint.is_healthy(tmp_path)
    for step in (2, 3, 4):
        save_checkpoint(tmp_path, step, state(step), keep=1)
        assert not checkpoint.is_healthy(tmp_path)
        healthy = checkpoint.load_healthy(tmp_path)
        assert healthy is not None
        assert healthy["model"]["w"][0] == 1
        assert sorted(p.name for p in tmp_path.glob("*.pt")) == ["step-00000001.pt", f"step-{step:08d}.pt"]
    checkpoint.mark_healthy(tmp_path)
    assert checkpoint.is_healthy(tmp_path)
    save_checkpoint(tmp_path, 5, state(5), keep=1)
    assert sorted(p.name for p in tmp_path.glob("*.pt")) == ["step-00000004.pt", "step-00000005.pt"]


def test_a_step_that_is_saved_again_replaces_it_and_all_after_it(tmp_path: Path) -> None:
    saved(tmp_path, 10, 20, 30, healthy=10)
    save_checkpoint(tmp_path, 10, state(11), keep=5)
    assert loaded(tmp_path) == (11, [])
    assert not checkpoint.is_healthy(tmp_path), "the new contents have passed no check"
    assert sorted(p.name for p in tmp_path.glob("*.pt")) == ["step-00000010-2.pt", "step-00000010.pt"]
    checkpoint.mark_healthy(tmp_path)
    save_checkpoint(tmp_path, 20, state(21), keep=5)
    assert sorted(p.name for p in tmp_path.glob("*.pt")) == ["step-00000010-2.pt", "step-00000020.pt"]
    (tmp_path / "step-00000020.pt").unlink()
    assert loaded(tmp_path)[0] == 11


@pytest.mark.parametrize("keep", [0, 1, 10, 100, 1000, -100, -1])
def test_a_cut_checkpoint_is_skipped(tmp_path: Path, keep: int) -> None:
    saved(tmp_path, 1, 2)
    path = tmp_path / "step-00000002.pt"
    path.write_bytes(path.read_bytes()[:keep])
    step, (line,) = loaded(tmp_path)
    assert step == 1
    fault = f"checkpoint {path} cannot be read (damaged: it does not match its checksum)"
    assert line == f"{fault}; going on with step-00000001.pt instead"
    assert loaded(tmp_path) == (1, []), "the older one is the last one now"


def test_any_flipped_bit_is_found(tmp_path: Path) -> None:
    saved(tmp_path, 1, 2)
    path = tmp_path / "step-00000002.pt"
    whole = path.read_bytes()
    for at in range(0, len(whole), 29):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])
        (tmp_path / "LAST").write_text(path.name)
        assert loaded(tmp_path)[0] == 1, f"byte {at}"
    path.write_bytes(whole)
    (tmp_path / "LAST").write_text(path.name)
    assert loaded(tmp_path) == (2, [])


FOREIGN = {
    "text": b"hello",
    "nothing": b"",
    "zeros": bytes(100),
    "bytes": bytes(range(256)),
    "list": pickled([1, 2]),
    "no format": pickled({"model": {}}),
    "later format": pickled({"model": {}, "format": 2}),
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_what_is_no_checkpoint_is_skipped_though_its_checksum_is_right(tmp_path: Path, content: bytes) -> None:
    saved(tmp_path, 1, 2)
    forge(tmp_path / "step-00000002.pt", content)
    step, (line,) = loaded(tmp_path)
    assert step == 1
    assert "step-00000002.pt cannot be read" in line
    assert "foreign" in line
    assert "weights_only" not in line, "torch's advice to run code from the file must not reach the user"


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    saved(tmp_path, 1)
    save_checkpoint(tmp_path, 2, {"model": Bomb(trace)})
    step, (line,) = loaded(tmp_path)
    assert step == 1
    assert "UnpicklingError: foreign, or more than weights" in line
    assert not trace.exists(), "loading the checkpoint ran code from it"
    torch.load(tmp_path / "step-00000002.pt", weights_only=False)
    assert trace.exists(), "the bomb is a dud: this test proves nothing"


@pytest.mark.parametrize("bad", [{3}, {2, 3}, {1, 3}, {2}, {1, 2}])
@pytest.mark.parametrize("gone", ["", ".sha256"], ids=["file", "checksum"])
def test_the_newest_good_one_is_used_and_all_skipped_ones_named(tmp_path: Path, bad: set[int], gone: str) -> None:
    saved(tmp_path, 1, 2, 3, healthy=1)
    for step in bad:
        (tmp_path / f"step-{step:08d}.pt{gone}").unlink()
    best = max({1, 2, 3} - bad)
    step, said = loaded(tmp_path)
    assert step == best
    skipped = [n for n in (3, 2, 1) if n > best and (gone or n == 3)]  # of older ones that are gone nobody knows
    assert (
        sorted(n for n in (1, 2, 3) for line in said if f"{tmp_path}/step-{n:08d}.pt cannot" in line) == skipped[::-1]
    )
    assert all(line.endswith(f"going on with step-{best:08d}.pt instead") for line in said)
    save_checkpoint(tmp_path, 3, state(33), keep=5)
    assert loaded(tmp_path) == (33, [])


def test_if_none_is_good_the_message_says_so(tmp_path: Path) -> None:
    saved(tmp_path, 1, 2)
    for path in tmp_path.glob("*.pt"):
        path.write_bytes(b"")
    with pytest.raises(UserError) as caught:
        loaded(tmp_path)
    assert str(caught.value).startswith("no checkpoint is left to go on from; start over with --overwrite\n")
    assert "step-00000001.pt cannot be read" in str(caught.value)
    assert "step-00000002.pt cannot be read" in str(caught.value)


def test_a_damaged_healthy_one_is_named(tmp_path: Path) -> None:
    saved(tmp_path, 1, 2, healthy=1)
    (tmp_path / "step-00000001.pt").write_bytes(b"")
    with pytest.raises(UserError, match=r"cannot go back to checkpoint .*step-00000001.pt \(damaged.*--overwrite"):
        checkpoint.load_healthy(tmp_path)


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    (tmp_path / "LAST").write_text("step-00000007.pt")
    with pytest.raises(UserError, match=r"step-00000007.pt cannot be read \(missing\)"):
        loaded(tmp_path)


@pytest.mark.parametrize("text", [None, "", "\0" * 16, "../../step-00000009.pt", "step-00000002.pt.part"])
def test_without_a_legible_last_the_newest_is_used(tmp_path: Path, text: str | None) -> None:
    saved(tmp_path, 1, 2)
    (tmp_path / "LAST").unlink()
    if text is not None:
        (tmp_path / "LAST").write_text(text)
    assert loaded(tmp_path) == (2, [])
    assert (tmp_path / "LAST").read_text() == "step-00000002.pt"


@pytest.mark.parametrize(
    "name", ["step-" + "1" * 5000 + ".pt", "step-00000001-" + "1" * 5000 + ".pt", "step-\u0661" * 9]
)
def test_a_pointer_to_what_can_be_no_checkpoint_is_none(tmp_path: Path, name: str) -> None:
    save_checkpoint(tmp_path, 1, {"w": torch.zeros(1)})
    for pointer in ("LAST", "HEALTHY"):
        (tmp_path / pointer).write_text(name)
    assert checkpoint.load_last(tmp_path, pytest.fail) is not None
    assert checkpoint.load_healthy(tmp_path) is None
    save_checkpoint(tmp_path, 2, {"w": torch.zeros(1)})
    assert (tmp_path / "LAST").read_text() == "step-00000002.pt"
