"""A process that is killed while it saves, at any call into the system, leaves the state before or the one after."""

import itertools
import os
import re
import runpy
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from hpcfast.training import checkpoint
from tests.unit.whole_runs import save_checkpoint

Action = Callable[[Path], object]
SYSTEM_CALLS = Path(__file__).parents[3] / "campaigns" / "system_calls.py"


def save(folder: Path, step: int, value: float) -> None:
    save_checkpoint(folder, step, {"w": torch.full((5000,), float(value))}, keep=2)


def value(state: dict[str, Any] | None) -> float | None:
    """Which ``value`` was saved; all of the tensor must be of it."""
    if state is None:
        return None
    assert state["w"].unique().numel() == 1
    return state["w"][0].item()


def last(folder: Path) -> float | None:
    return value(checkpoint.load_last(folder, lambda line: pytest.fail(f"a file was unusable: {line}")))


killed_at: Callable[..., bool] = runpy.run_path(str(SYSTEM_CALLS))["killed_at"]


def traced(action: Action, folder: Path, switch: Callable[[], None]) -> None:
    switch()
    action(folder)
    switch()


def kills(before: Path, action: Action) -> Iterator[Path]:
    """What ``action`` makes of copies of ``before``, killed one system call later each time; the last one is whole."""
    call, killed = 0, True
    while killed:
        call += 1
        folder = before.with_name(f"killed-{call}")
        shutil.copytree(before, folder)
        killed = killed_at(call, partial(traced, action, folder / "checkpoints"))
        yield folder / "checkpoints"
        shutil.rmtree(folder)


def names(folder: Path) -> list[str]:
    """All files, whichever save of its step a checkpoint is."""
    return sorted(re.sub(r"(-\d{8})-\d+", r"\1", path.name) for path in folder.iterdir())


def three(folder: Path) -> None:
    for step in (10, 20, 30):
        save(folder, step, step)
        if step == 10:
            checkpoint.mark_healthy(folder)


def back(folder: Path) -> None:
    save(folder, 10, 11)


def three_and_back(folder: Path) -> None:
    three(folder)
    back(folder)


def prepared(tmp_path: Path, prepare: Action) -> Path:
    before = tmp_path / "before"
    before.mkdir()
    prepare(before / "checkpoints")
    return before


@pytest.mark.parametrize(
    ("prepare", "action", "old", "new"),
    [
        pytest.param(lambda _: None, lambda f: save(f, 5, 5), None, 5, id="the first"),
        pytest.param(three, lambda f: save(f, 40, 40), 30, 40, id="the next, an old one deleted"),
        pytest.param(three, lambda f: save(f, 30, 31), 30, 31, id="the newest step again"),
        pytest.param(three, back, 30, 11, id="rolled back to the healthy one"),
        pytest.param(three, lambda f: save(f, 20, 21), 30, 21, id="rolled back to another"),
        pytest.param(three_and_back, lambda f: save(f, 10, 12), 11, 12, id="rolled back twice"),
    ],
)
def test_a_killed_save_leaves_the_state_before_or_the_one_after(
    tmp_path: Path, prepare: Action, action: Action, old: float | None, new: float
) -> None:
    before = prepared(tmp_path, prepare)
    healthy = value(checkpoint.load_healthy(before / "checkpoints"))
    shutil.copytree(before, tmp_path / "whole")
    action(tmp_path / "whole" / "checkpoints")
    seen = []
    for folder in kills(before, action):
        seen.append(last(folder))
        assert value(checkpoint.load_healthy(folder)) == healthy
        action(folder)  # the training goes on, and all is as if nothing had happened
        assert last(folder) == new
        assert value(checkpoint.load_healthy(folder)) == healthy
        assert names(folder) == names(tmp_path / "whole" / "checkpoints")
        sums = sorted(path.name for path in folder.glob("*.sha256"))
        subprocess.run(["sha256sum", "--check", "--quiet", *sums], cwd=folder, check=True)
    assert len(seen) > 12, "hardly any system call was seen"
    assert {old, new} == set(seen)


def test_what_was_rolled_back_never_returns(tmp_path: Path) -> None:
    resumed = 0
    for folder in kills(prepared(tmp_path, three), back):
        if last(folder) == 11:
            save(folder, 40, 40)
            (folder / "step-00000040.pt").write_bytes(b"damaged")
            assert value(checkpoint.load_last(folder, str)) == 11, "a state from before the roll-back was taken up"
            resumed += 1
    assert resumed > 3, "hardly any kill came after the roll-back"


def test_a_kill_while_marking_leaves_one_mark_or_the_other(tmp_path: Path) -> None:
    seen = []
    for folder in kills(prepared(tmp_path, three), checkpoint.mark_healthy):
        seen.append(value(checkpoint.load_healthy(folder)))
        assert checkpoint.is_healthy(folder) == (seen[-1] == 30)
        assert last(folder) == 30
    assert seen == sorted(seen)
    assert set(seen) == {10, 30}


def test_a_kill_while_loading_an_older_one_changes_nothing(tmp_path: Path) -> None:
    before = prepared(tmp_path, three)
    (before / "checkpoints" / "step-00000030.pt").write_bytes(b"damaged")

    def load(folder: Path) -> float | None:
        return value(checkpoint.load_last(folder, str))

    found = [load(folder) for folder in kills(before, load)]
    assert len(found) > 4, "hardly any system call was seen"
    assert set(found) == {20}


def test_all_is_on_disk_before_it_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a power failure, too, there is the old state or the new one."""
    log: list[tuple[str, str]] = []
    fsync, replace = os.fsync, os.replace

    def synced(descriptor: int) -> None:
        name = Path(f"/proc/self/fd/{descriptor}").readlink().name
        log.append(("on disk", re.sub(r"\.[0-9a-f]{8}\.part$", ".part", name)))
        fsync(descriptor)

    def renamed(source: Path, target: Path) -> None:
        log.append(("named", Path(target).name))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    folder = tmp_path / "checkpoints"
    save(folder, 7, 7)
    files = ["step-00000007.pt.sha256", "step-00000007.pt", "LAST"]
    steps = [(("on disk", f"{name}.part"), ("named", name), ("on disk", "checkpoints")) for name in files]
    assert log == list(itertools.chain(*steps))
