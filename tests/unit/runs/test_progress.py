"""What a person sees: a bar on a terminal, plain lines elsewhere, nothing on other ranks."""

import io
import sys

import pytest
from rich.console import Console

from hpcfast.distributed import launcher
from hpcfast.runs import progress
from hpcfast.runs.progress import Reporter


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """The time that progress sees; change it to let time pass."""
    at = {"time": 100.0}
    monkeypatch.setattr(progress.time, "perf_counter", lambda: at["time"])
    return at


def work(now: dict[str, float], visible: bool = True, total: int | None = 1000, seconds: float = 2.0) -> None:
    """Do 100 of ``total`` units in each of 10 spans of time."""
    with Reporter(visible) as reporter:
        task = reporter.task("epoch 1/2", total, "images")
        for done in range(100, 1001, 100):
            now["time"] += seconds
            task.update(done, "loss 0.5")
        task.close()
        reporter.say("done")


def test_elsewhere_a_line_comes_every_five_seconds(now: dict[str, float], capsys: pytest.CaptureFixture[str]) -> None:
    work(now)
    assert capsys.readouterr().out.splitlines() == [
        "epoch 1/2  300 images  50 images/s  loss 0.5  of 1,000, left 00:00:14",
        "epoch 1/2  600 images  50 images/s  loss 0.5  of 1,000, left 00:00:08",
        "epoch 1/2  900 images  50 images/s  loss 0.5  of 1,000, left 00:00:02",
        "done",
    ]


def test_without_a_total_no_time_left_is_given(now: dict[str, float], capsys: pytest.CaptureFixture[str]) -> None:
    work(now, total=None, seconds=5)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "epoch 1/2  100 images  20 images/s  loss 0.5"
    assert len(lines) == 11


def test_more_than_a_day_left_is_said_so(now: dict[str, float], capsys: pytest.CaptureFixture[str]) -> None:
    work(now, total=10_000, seconds=3600)
    first = capsys.readouterr().out.splitlines()[0]
    assert "left 99:00:00" in first


def test_more_done_than_announced_leaves_no_time(now: dict[str, float], capsys: pytest.CaptureFixture[str]) -> None:
    work(now, total=950, seconds=5)
    assert capsys.readouterr().out.splitlines()[-2].endswith("left 00:00:00")


def test_the_rate_counts_from_where_an_earlier_run_stopped(
    now: dict[str, float], capsys: pytest.CaptureFixture[str]
) -> None:
    with Reporter(True) as reporter:
        task = reporter.task("evaluation", 1000, "images", done=500)
        now["time"] += 10
        task.update(600)
    assert capsys.readouterr().out == "evaluation  600 images  10 images/s    of 1,000, left 00:00:40\n"


def test_other_ranks_show_nothing(now: dict[str, float], capsys: pytest.CaptureFixture[str]) -> None:
    work(now, visible=False)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_shows_a_bar(
    now: dict[str, float], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, *_ in launcher.LAUNCHERS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with Reporter(True) as reporter:
        task = reporter.task("epoch 1/2", 1000, "images")
        now["time"] += 2
        task.update(500, "[loss] 0.5")
        bar = reporter._bar
        assert not bar.disable
        assert (bar.tasks[0].completed, bar.tasks[0].total) == (500, 1000)
        assert bar.tasks[0].fields["note"] == "250 images/s  [loss] 0.5"
        reporter.say("a [line] that stays")
        task.close()
        assert bar.tasks == []
    assert "a [line] that stays" in capsys.readouterr().out


def test_under_a_launcher_a_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "0")
    assert Reporter(True)._bar.disable


@pytest.mark.parametrize("columns", [60, 80])
@pytest.mark.parametrize(
    ("name", "total", "note"),
    [
        ("training", 25_600, "epoch 11.5/20  loss 0.007  lr 0.0146  and whatever else a note may say of a step"),
        ("prepare /a/folder/that/lies/deep/in/others/and/has/a/name", 128_116_700, "of 128,116,700"),
    ],
)
def test_a_narrow_terminal_shortens_the_note_and_keeps_count_and_time(
    now: dict[str, float], monkeypatch: pytest.MonkeyPatch, columns: int, name: str, total: int, note: str
) -> None:
    for launched, *_ in launcher.LAUNCHERS:
        monkeypatch.delenv(launched, raising=False)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    reporter, file = Reporter(True), io.StringIO()
    task = reporter.task(name, total, "images")
    for done in (100, total - 7):  # twice: then the time left is known
        now["time"] += 5000
        task.update(done, note)
    Console(file=file, width=columns, force_terminal=True, color_system=None).print(reporter._bar.get_renderable())
    (line,) = file.getvalue().splitlines()
    assert f" {total - 7}/{total} " in line
    assert "0:00:01 " in line
    assert line.startswith(name[:8])
    assert "…" in line
    assert len(line) <= columns
