"""What srun starts for each rank: signals reach the command, and Slurm hears what it should."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hpcfast.cluster import rank

# It takes signals once a file is there, and ends as hpcfast does when it was stopped.
CHILD = """
import os, signal, sys
def note(number, _):
    os.write(1, f"{signal.Signals(number).name}\\n".encode())  # print would raise where it interrupts a print
    sys.exit(75)
print("begun", os.getpid(), flush=True)
sys.stdin.readline()
for number in (signal.SIGUSR2, signal.SIGTERM):
    signal.signal(number, note)
print("ready", flush=True)
while True:
    signal.pause()
"""


@pytest.fixture(autouse=True)
def first(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"SLURM_PROCID": "0", "SLURM_STEP_ID": "5", "SLURMD_NODENAME": "n1"}.items():
        monkeypatch.setenv(name, value)


def start(tmp_path: Path, *command: str) -> subprocess.Popen[str]:
    command = command or (sys.executable, "-c", CHILD)
    return subprocess.Popen(
        [sys.executable, rank.__file__, str(tmp_path / "failed"), *command], text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


@pytest.mark.parametrize("number", sorted(rank.HANDED_ON))
def test_a_signal_to_the_process_that_slurm_started_reaches_the_command(tmp_path: Path, number: signal.Signals) -> None:
    step = start(tmp_path)
    assert step.stdin
    assert step.stdout
    assert step.stdout.readline().startswith("begun")
    step.stdin.write("go\n")
    step.stdin.flush()
    assert step.stdout.readline() == "ready\n"
    step.send_signal(number)
    out, error = step.communicate(timeout=60)
    assert (step.returncode, out, error) == (0, f"{number.name}\n", "")


def test_a_signal_that_comes_before_the_command_can_take_it_is_kept_for_it(tmp_path: Path) -> None:
    step = start(tmp_path)
    assert step.stdout
    child = int(step.stdout.readline().split()[1])
    for pid in (child, step.pid):  # some ways to track processes give it to both
        os.kill(pid, signal.SIGUSR2)
    out, error = step.communicate("go\n", timeout=60)
    assert (step.returncode, out, error) == (0, "ready\nSIGUSR2\n", "")


def test_a_killed_command_is_told(tmp_path: Path) -> None:
    step = start(tmp_path, "sh", "-c", "kill -KILL $$")
    _, error = step.communicate(timeout=60)
    assert step.returncode == 137
    assert "rank 0 on host " in error
    assert "was killed, by somebody" in error
    assert (tmp_path / "failed").read_text() == "137 5 n1"


def test_a_command_that_is_not_there_is_told(tmp_path: Path) -> None:
    step = start(tmp_path, "nowhere-to-be-found")
    _, error = step.communicate(timeout=60)
    assert step.returncode == 127
    assert error.startswith("error: nowhere-to-be-found cannot be run on host ")


@pytest.mark.parametrize(
    ("number", "code", "hears", "left"),
    [
        (0, 0, 0, None),
        (0, 75, 0, None),  # stopped with a checkpoint: no reason to end the others
        (1, 75, 0, None),
        (0, 2, 2, "2 5 n1"),
        (1, 2, 0, None),  # rank 0 has the message, and must have time to print it
        (1, 143, 0, None),  # ended by srun, since another has failed
        (0, 143, 143, "143 5 n1"),
        (1, 1, 1, "1 5 n1"),
        (1, 76, 1, "1 5"),  # it only lost the others: its node is not to blame
        (1, 139, 139, "139 5 n1"),
    ],
)
def test_srun_hears_of_failures_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: int, hears: int, left: str | None
) -> None:
    monkeypatch.setenv("SLURM_PROCID", str(number))
    failed = tmp_path / "failed"
    assert rank.report(code, failed) == hears
    assert (failed.read_text() if failed.exists() else None) == left


def test_the_code_of_the_first_that_failed_stays(tmp_path: Path) -> None:
    failed = tmp_path / "failed"
    assert rank.report(1, failed) == 1
    assert rank.report(134, failed) == 134
    assert failed.read_text() == "1 5 n1"


@pytest.mark.parametrize(
    ("groups", "file", "text"),
    [
        ("5:memory:/job\n0::/\n", "memory/job/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n"),
        ("0::/job\n", "job/memory.events", "low 0\nhigh 0\noom 1\noom_kill 1\n"),
    ],
)
def test_kills_by_the_kernel_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, groups: str, file: str, text: str
) -> None:
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(text)
    (tmp_path / "cgroup").write_text(groups)
    monkeypatch.setattr(rank, "GROUPS", tmp_path)
    monkeypatch.setattr(rank, "OWN", tmp_path / "cgroup")
    assert rank.memory_kills() == {tmp_path / file: 1}


@pytest.mark.parametrize(("kills", "said"), [((3, 3), "by somebody"), ((3, 4), "out of memory")])
def test_only_kills_while_the_rank_ran_are_its_own(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    kills: tuple[int, int],
    said: str,
) -> None:
    """Without control groups for jobs the counter is the whole machine's, since it was switched on."""
    counts = iter(kills)
    monkeypatch.setattr(rank, "memory_kills", lambda: {Path("group"): next(counts)})
    monkeypatch.setattr(rank, "run", lambda _: -signal.SIGKILL)
    monkeypatch.setattr(sys, "argv", ["rank.py", str(tmp_path / "failed"), "hpcfast"])
    with pytest.raises(SystemExit):
        rank.main()
    assert f"was killed, {said}" in capsys.readouterr().err
