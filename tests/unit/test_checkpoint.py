"""Checkpoints: whole or not at all, refused when damaged, and never code."""

from pathlib import Path
from typing import Any

import pytest
import torch

from hpcfast import checkpoint
from hpcfast.errors import UserError


def state(value: float = 1.0) -> dict[str, Any]:
    return {"model": {"w": torch.full((50,), value)}, "optimizer": {"state": {0: {"m": None}}}, "step": 3, "s": 0.5}


class Bomb:
    """An object whose unpickling leaves a trace."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return Path.touch, (self.trace,)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "checkpoints", 3, state())
    loaded = checkpoint.load_last(tmp_path / "checkpoints")
    assert loaded is not None
    assert torch.equal(loaded["model"].pop("w"), state()["model"]["w"])
    assert loaded == {**state(), "model": {}}


def test_nothing_is_loaded_where_nothing_was_saved(tmp_path: Path) -> None:
    assert checkpoint.load_last(tmp_path / "checkpoints") is None
    (tmp_path / "checkpoints").mkdir()
    assert checkpoint.load_last(tmp_path / "checkpoints") is None


def test_last_names_the_newest_and_two_are_kept(tmp_path: Path) -> None:
    for step in (5, 10, 99_999_999, 100_000_000):
        checkpoint.save(tmp_path, step, state(step))
        loaded = checkpoint.load_last(tmp_path)
        assert loaded is not None
        assert loaded["model"]["w"][0] == step
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["LAST", "step-100000000.pt", "step-99999999.pt"]
    assert (tmp_path / "LAST").read_text() == "step-100000000.pt"


@pytest.mark.parametrize("keep", [0, 1, 10, 100, 1000, -100, -1])
def test_a_cut_checkpoint_is_refused_and_the_older_one_named(tmp_path: Path, keep: int) -> None:
    for step in (1, 2):
        checkpoint.save(tmp_path, step, state())
    path = tmp_path / "step-00000002.pt"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError) as caught:
        checkpoint.load_last(tmp_path)
    message = str(caught.value)
    assert str(path) in message
    assert "write an older one's name (step-00000001.pt) into" in message
    (tmp_path / "LAST").write_text("step-00000001.pt\n")
    assert checkpoint.load_last(tmp_path) is not None, "the cure in the message must work"


@pytest.mark.parametrize("content", [b"hello", bytes(100), bytes(range(256))], ids=["text", "zeros", "bytes"])
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    checkpoint.save(tmp_path, 1, state())
    (tmp_path / "step-00000001.pt").write_bytes(content)
    with pytest.raises(UserError, match=r"(?s)step-00000001.pt cannot be read .*start over with --overwrite") as caught:
        checkpoint.load_last(tmp_path)
    assert "weights_only" not in str(caught.value), "torch's advice to run code from the file must not reach the user"


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    (tmp_path / "LAST").write_text("step-00000007.pt")
    with pytest.raises(UserError, match="step-00000007.pt cannot be read"):
        checkpoint.load_last(tmp_path)


def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    checkpoint.save(tmp_path, 1, {"model": Bomb(trace)})
    assert not trace.exists()
    with pytest.raises(UserError, match="cannot be read"):
        checkpoint.load_last(tmp_path)
    assert not trace.exists(), "loading the checkpoint ran code from it"
    torch.load(tmp_path / "step-00000001.pt", weights_only=False)
    assert trace.exists(), "the bomb is a dud: this test proves nothing"


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fail(part: Path) -> None:
        part.write_text("half of the n")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        checkpoint.write_atomically(path, fail)
    assert path.read_text() == "old"
    checkpoint.save_text(path, "new")
    assert path.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["file"], "no .part is left behind"


def test_an_interrupted_save_leaves_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint.save(tmp_path, 1, state(1))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    for victim in ("os.fsync", "os.replace", "torch.save"):
        with monkeypatch.context() as patch:
            patch.setattr(victim, killed)
            with pytest.raises(KeyboardInterrupt):
                checkpoint.save(tmp_path, 2, state(2))
        loaded = checkpoint.load_last(tmp_path)
        assert loaded is not None
        assert loaded["model"]["w"][0] == 1, f"killed in {victim}"


def test_weights_are_kept_as_safetensors(tmp_path: Path) -> None:
    weights = {"a": torch.arange(6.0).view(2, 3).T, "b": torch.tensor(3)}
    checkpoint.save_weights(tmp_path / "w.safetensors", weights)
    loaded = checkpoint.load_weights(tmp_path / "w.safetensors")
    assert loaded.keys() == weights.keys()
    assert all(torch.equal(loaded[name], weights[name]) for name in weights)


def test_missing_weights_say_that_the_run_is_unfinished(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no weights .*finish the run first"):
        checkpoint.load_weights(tmp_path / "model.safetensors")


@pytest.mark.parametrize("content", [b"", b"hello", bytes(8), b"\xff" * 100])
def test_damaged_weights_are_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=r"model\.safetensors is no readable safetensors file"):
        checkpoint.load_weights(tmp_path / "model.safetensors")
