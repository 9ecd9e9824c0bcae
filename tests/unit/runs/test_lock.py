"""One process at a time in a folder, with and without locks of the file system."""

import errno
import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hpcfast.errors import UserError
from hpcfast.runs import lock

WORDS = "run directory", "set runs= to another folder", "is in use by another process; wait for it"


@pytest.fixture
def lockless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that has no locks."""

    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    for name in ("SLURM_JOB_ID", "SLURM_RESTART_COUNT"):
        monkeypatch.delenv(name, raising=False)


def left(folder: Path, **changes: object) -> Path:
    """The file of a process that was killed: of this machine, unless ``changes`` say more."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    holder = lock._Holder.here()._asdict() | {"pid": ended.pid} | changes
    file = folder / ".lock-01234567"
    file.write_text(json.dumps(holder))
    return file


def refusal(folder: Path) -> str:
    with pytest.raises(UserError) as caught, lock.held(folder, *WORDS):
        pass
    return str(caught.value)


def test_with_locks_no_file_names_a_process(tmp_path: Path) -> None:
    with lock.held(tmp_path, *WORDS):
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]


@pytest.mark.usefixtures("lockless")
def test_without_locks_a_second_process_is_refused_while_the_first_lives(tmp_path: Path) -> None:
    with lock.held(tmp_path, *WORDS):
        message = refusal(tmp_path)
        assert f"{tmp_path} {WORDS[2]} (process {os.getpid()} on " in message
        assert refusal(tmp_path) == message, "being refused takes nothing from the first"
    with lock.held(tmp_path, *WORDS):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


@pytest.mark.usefixtures("lockless")
def test_the_file_of_a_killed_process_is_no_hindrance_on_its_machine(tmp_path: Path) -> None:
    file = left(tmp_path)
    with lock.held(tmp_path, *WORDS):
        assert not file.exists()


@pytest.mark.usefixtures("lockless")
@pytest.mark.parametrize("changes", [{"host": "n7", "job": "4711"}, {"namespace": "pid:[1]", "job": "4711"}])
def test_whose_life_cannot_be_known_is_refused_with_the_cure(tmp_path: Path, changes: dict[str, str]) -> None:
    file = left(tmp_path, **changes)
    message = refusal(tmp_path)
    expected = (f"if process {json.loads(file.read_text())['pid']} on ", "(Slurm job 4711) has ended", f"remove {file}",
                "has no locks", "-o flock")  # fmt: skip
    assert [part for part in expected if part not in message] == []
    assert file.exists()
    file.unlink()
    with lock.held(tmp_path, *WORDS):
        pass


@pytest.mark.usefixtures("lockless")
@pytest.mark.parametrize("text", ["", "{", '{"pid": 1}', "[]"])
def test_a_file_that_does_not_say_whose_it_is_is_refused_too(tmp_path: Path, text: str) -> None:
    file = tmp_path / ".lock-01234567"
    file.write_text(text)
    assert f"remove {file}" in refusal(tmp_path)


@pytest.mark.usefixtures("lockless")
def test_a_job_that_was_requeued_takes_the_folder_over_from_its_former_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    file = left(tmp_path, host="n7", job="4711", start=0)
    assert f"remove {file}" in refusal(tmp_path), "two steps of one start may both live"
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    with lock.held(tmp_path, *WORDS):
        assert not file.exists()


def test_other_faults_of_a_lock_are_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", flock)
    assert "cannot lock the run directory" in refusal(tmp_path)
