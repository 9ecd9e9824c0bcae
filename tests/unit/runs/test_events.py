"""The event log and the clocks."""

import json
from pathlib import Path

import pytest

from hpcfast.runs import clock, events
from hpcfast.runs.clock import Clock
from hpcfast.runs.events import EventLog


def test_events_are_json_lines_with_time_key_value_step_epoch_and_rank(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events.time, "time", lambda: 1234.5)
    log = EventLog(tmp_path / "events.jsonl")
    log.write("train_loss", 0.25, step=7, epoch=1 / 3)
    log.write("epoch_stop", step=8, epoch=1, at=1234.25)
    assert [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()] == [
        {"time": 1234.5, "key": "train_loss", "value": 0.25, "step": 7, "epoch": 0.333333, "rank": 0},
        {"time": 1234.25, "key": "epoch_stop", "value": None, "step": 8, "epoch": 1, "rank": 0},
    ]


def test_an_event_is_on_disk_at_once_and_a_resumed_log_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    logs = [EventLog(path), EventLog(path)]
    for step, log in enumerate(logs):
        log.write("step", step, step=step, epoch=0)
        assert [event["value"] for event in events.read(path)] == list(range(step + 1))


def test_without_a_path_nothing_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    log = EventLog(None)
    log.write("step", step=1, epoch=0)
    assert list(tmp_path.iterdir()) == []


def test_a_line_cut_off_is_left_out_and_the_rest_is_read(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    log = EventLog(path)
    for step in range(3):
        log.write("step", step, step=step, epoch=0)
    path.write_text(path.read_text()[:-10])
    assert [event["value"] for event in events.read(path)] == [0, 1]


def test_events_after_a_cut_line_are_read(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"key": "a", "va')
    log = EventLog(path)
    log.write("b", step=1, epoch=0)
    log.write("c", step=2, epoch=0)
    assert [event["key"] for event in events.read(path)] == ["b", "c"]


def test_what_a_power_cut_has_left_is_no_event(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    EventLog(path).write("a", step=1, epoch=0)
    with path.open("ab") as file:
        file.write(b"\0\0\0\n\xff\xfe\x80\n")
    EventLog(path).write("b", step=1, epoch=0)
    assert [event["key"] for event in events.read(path)] == ["a", "b"]


def test_a_missing_log_has_no_events(tmp_path: Path) -> None:
    assert events.read(tmp_path / "events.jsonl") == []


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """The time that the clocks see; change it to let time pass."""
    at = {"time": 1000.0}
    monkeypatch.setattr(clock.time, "time", lambda: at["time"])
    monkeypatch.setattr(clock.time, "perf_counter", lambda: at["time"])
    return at


def test_the_training_clock_counts_its_blocks_alone(now: dict[str, float]) -> None:
    both = Clock()
    for _ in range(2):
        with both.training():
            now["time"] += 10
        now["time"] += 5
    assert (both.trained, both.wall) == (20, 30)


def test_a_block_that_fails_counts_too(now: dict[str, float]) -> None:
    both = Clock()

    def fail() -> None:
        with both.training():
            now["time"] += 10
            raise ValueError

    with pytest.raises(ValueError, match="^$"):
        fail()
    assert both.trained == 10


def test_the_wall_clock_goes_on_through_an_interruption(now: dict[str, float]) -> None:
    resumed = Clock(started=400.0)
    now["time"] += 1
    assert resumed.wall == 601


def test_a_full_disk_is_said_to_be_the_logs(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    log._file = Path("/dev/full").open("a", buffering=1)  # noqa: SIM115 - it cannot be closed: that writes the rest
    with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
        log.write("step", step=1, epoch=0)
