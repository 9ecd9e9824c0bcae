"""What a rank does when the job ends because another has fallen silent."""

import os
import threading
from pathlib import Path

import pytest

from hpcfast.distributed import status
from hpcfast.distributed.watchdog import Watchdog


def test_a_rank_says_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dog, codes = Watchdog(3, 4), []
    monkeypatch.setattr(status, "_watchdog", dog)
    monkeypatch.setattr(status, "_traces", None)
    monkeypatch.setattr(status, "_last_words", None)
    monkeypatch.setattr(os, "_exit", codes.append)
    said: list[str] = []
    status.tell_before_end(lambda: said.append("it ends"))
    status.leave_traces(tmp_path / "stacks")
    assert dog.advice.endswith(f"{tmp_path}/stacks")
    status.end()
    assert said == ["it ends"]
    (trace,) = (tmp_path / "stacks").iterdir()
    assert trace.name == "rank-00003.txt"
    assert "test_a_rank_says_where_it_was" in trace.read_text()
    assert codes == [1]
    status.leave_traces(tmp_path / "nowhere" / "stacks")
    status.end()
    assert codes == [1, 1], "a folder that is gone changes nothing"
    dog.stop()


def test_a_file_system_that_hangs_does_not_keep_a_rank_from_ending(monkeypatch: pytest.MonkeyPatch) -> None:
    codes, gone = [], threading.Event()
    monkeypatch.setattr(status, "_leave_trace", gone.wait)
    monkeypatch.setattr(status, "PATIENCE", 0.1)
    monkeypatch.setattr(os, "_exit", codes.append)
    ending = threading.Thread(target=status.end, daemon=True)
    ending.start()
    ending.join(10)
    assert codes == [1]
    gone.set()
