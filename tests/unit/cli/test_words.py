"""What commands say: options blamed as they were typed, numbers in words, and whole lines."""

import io
import re
import sys
from pathlib import Path

import pytest

from hpcfast import cli
from hpcfast.distributed import comm, lines
from hpcfast.errors import UserError
from hpcfast.runs.progress import Reporter
from tests.unit.cli.test_cli import Run, assert_refused, config, hpcfast

__all__ = ["config", "hpcfast"]  # the fixtures


@pytest.fixture
def run(hpcfast: Run, config: Path, tmp_path: Path) -> Path:
    assert hpcfast("train", config, "evaluation.every=0").code == 0
    return tmp_path / "runs" / "tiny"


def test_a_wrong_option_is_blamed_as_it_was_typed(hpcfast: Run, run: Path) -> None:
    for option, value, problem in (
        ("--attack", "cw", "'cw' is not one of: apgd, "),
        ("--eps", "0", "input should be greater than 0"),
        ("--eps", "abc", "input should be a valid number"),
        ("--eps", "[", ""),
        ("--steps", "-1", "input should be greater than 0"),
        ("--restarts", "0", "input should be greater than 0"),
        ("--version", "new", "unknown key"),
        ("--images", "0", "input should be greater than 0"),
        ("--curve", "1,x", "input should be a valid number"),
        ("--norm", "L3", "input should be 'Linf', 'L2' or 'L1'"),
    ):
        done = hpcfast("eval", run, option, value)
        assert_refused(done, f"error: {option} {value}: {problem}")
        assert "config" not in done.err, "its own configuration is fine"


def test_of_options_settings_and_a_file_each_is_blamed_for_its_own(hpcfast: Run, run: Path) -> None:
    done = hpcfast("eval", run, "threat.norm=L3", "--eps", "0")
    assert_refused(done, "error: --eps 0: input", "threat.norm=L3: wrong settings\n  threat.norm: input")
    assert "config.yaml" not in done.err
    (run / "config.yaml").write_text((run / "config.yaml").read_text().replace("seed: 0", "seed: -1"))
    done = hpcfast("eval", run, "--eps", "0")
    assert_refused(done, "error: --eps 0: ", f"{run}/config.yaml with --eps 0: wrong settings\n  seed: ")


@pytest.mark.parametrize("command", [["train"], ["config", "show"], ["submit", "--dry-run"]])
def test_a_wrong_override_is_blamed_and_not_the_file(hpcfast: Run, config: Path, command: list[str]) -> None:
    done = hpcfast(*command, config, "epochs=0", "seed=1")
    assert_refused(done, "error: epochs=0: wrong settings\n  epochs: input should be greater than 0")
    assert "tiny.yaml" not in done.err


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["bench", "loader", "nowhere"], "error: DATA: no folder nowhere/train"),
        (["data", "pack", "nowhere", "out"], "error: DATA: no folder nowhere/train"),
        (["bench", "step", "--model", "none"], "error: --model none: 'none' is not one of"),
    ],
)
def test_other_commands_blame_what_was_typed(hpcfast: Run, command: list[str], said: str) -> None:
    done = hpcfast(*command)
    assert_refused(done, said)
    assert "data.path" not in done.err


def test_a_study_is_named_where_its_settings_are_wrong(hpcfast: Run, config: Path, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(
        f"title: t\nstrong: [1]\nset: [epochs=0]\ndata: [{{name: d, target: 0.5, global_batch: 8, "
        f"methods: [{{name: fast, config: {config}}}]}}]\n"
    )
    assert_refused(hpcfast("scaling", "plan", "s.yaml"), "error: s.yaml, method fast: epochs=0: wrong settings")


def test_no_command_prints_a_dictionary(hpcfast: Run, run: Path, tmp_path: Path) -> None:
    said = hpcfast("eval", run, "--attack", "apgd", "--steps", "2", "--images", "7").out
    assert re.search(r"^attack           apgd, 2 steps, 9 targets, L2 eps 0\.5, 7 images, [\d.]+ m?s$", said, re.M), (
        said
    )
    said += hpcfast("data", "prepare", "digits", "--out", tmp_path / "digits").out
    assert f"{tmp_path / 'digits'}: train 1,437 images, val 360 images" in said
    assert not re.search(r"[{}]|None|\['", said), said


class Pipe(io.RawIOBase):
    """Notes each write, as a pipe or file that several ranks share would get it."""

    def __init__(self) -> None:
        self.pieces: list[str] = []

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self.pieces.append(bytes(data).decode())
        return len(data)


@pytest.mark.parametrize("unbuffered", [False, True], ids=["buffered", "PYTHONUNBUFFERED"])
def test_lines_of_ranks_are_written_whole(unbuffered: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = Pipe()
    for name in ("stdout", "stderr"):
        stream = io.TextIOWrapper(io.BufferedWriter(pipe), write_through=unbuffered, line_buffering=True)
        monkeypatch.setattr(sys, name, stream)
    lines.write("one\ntwo", sys.stderr)
    reporter = Reporter(True)
    reporter.say("three")
    monkeypatch.setattr("hpcfast.runs.progress.LINE_EVERY", 0.0)
    reporter.task("four", None, "images").update(5)
    monkeypatch.setattr(comm, "abort", lambda code: sys.exit(code))
    with pytest.raises(SystemExit):
        cli._fail(ValueError("five\nsix"), 3)

    def refuse() -> None:
        raise UserError("seven\neight")

    monkeypatch.setattr(cli, "app", refuse)
    monkeypatch.setattr("hpcfast.distributed.launcher.rank", lambda: 0)
    with pytest.raises(SystemExit):
        cli.main()
    pieces = [piece.splitlines()[0].split("  ")[0] for piece in pipe.pieces]
    assert pieces == ["one", "three", "four", "rank 3 failed:", "error: seven"]
    assert all(piece.endswith("\n") for piece in pipe.pieces)
