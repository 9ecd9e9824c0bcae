"""What srun starts for each rank: ``rank.py FAILED COMMAND…`` runs COMMAND, hands on signals, and says how it ended.

Slurm gives a signal to the processes that it has started itself, and where it tracks them by control groups to no
other. A command may not be able to take it yet: it starts with USR2 and TERM ignored, and gets them once it can.

srun ends all ranks of a job when one ends with a code other than 0, and then reports any of their codes. So a rank that
has stopped with a checkpoint ends with 0, and the code of the first that failed is written to FAILED, with Slurm's
number of the step and the node; without the node where that rank only lost the others.

Only the standard library, from Python 3.8 on: the command may lie in a container, and this outside it.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

STOPPED, REFUSED, LOST = 75, 2, 76
"""Codes of hpcfast: stopped with a checkpoint; wrong input, of which rank 0 has the message; another rank failed."""
ENDED = 128 + signal.SIGTERM
"""Of a rank that srun ended, because another had failed."""
NOT_FOUND = 127
"""As a shell says it."""
HANDED_ON = {signal.SIGTERM, signal.SIGUSR2}
OWN, GROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
"""The control groups of this process, and where the kernel shows all of them."""
SECONDS = 0.1
"""Between two looks whether the command can take a signal."""


def main() -> None:
    """The command line."""
    failed, *command = sys.argv[1:]
    before = memory_kills()
    code = run(command)
    if code in (-signal.SIGKILL, 128 + signal.SIGKILL):  # a container's own child may have been killed
        cause = "by somebody, or because the whole node was out of memory"
        if any(count > before.get(group, 0) for group, count in memory_kills().items()):
            cause = "out of memory: ask for more --mem, or set a smaller data.batch_size"
        say(f"rank {os.environ['SLURM_PROCID']} on host {socket.gethostname()} was killed, {cause}")
    sys.exit(report(code if code >= 0 else 128 - code, Path(failed)))


def run(command: list[str]) -> int:
    """The code of ``command``, negative if a signal ended it."""
    watched = {*HANDED_ON, signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, watched)

    def begin() -> None:
        for number in HANDED_ON:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, watched)

    try:
        child = subprocess.Popen(command, preexec_fn=begin)  # there are no threads here
    except OSError as error:
        say(f"error: {command[0]} cannot be run on host {socket.gethostname()}: {error.strerror}")
        return NOT_FOUND
    waiting: set[int] = set()
    while child.poll() is None:
        number = take(watched, SECONDS if waiting else None)
        waiting |= {number} & HANDED_ON
        for each in {each for each in waiting if catches(child.pid, each)}:
            child.send_signal(each)
            waiting.remove(each)
    return child.returncode


def take(numbers: set[signal.Signals], seconds: float | None) -> int:
    """The next of these signals; 0 if none comes for ``seconds``."""
    if seconds is None:
        return signal.sigwait(numbers)
    info = signal.sigtimedwait(numbers, seconds)
    return info.si_signo if info else 0


def catches(pid: int, number: int) -> bool:
    """Whether a process has a handler for a signal."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False  # it has just ended
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught, 16) >> (number - 1) & 1)


def memory_kills() -> dict[Path, int]:
    """How many processes the kernel has killed so far because this rank's control group had no memory.

    By the file of that group (version 1 or 2) that counts them.
    """
    kills = {}
    for line in OWN.read_text().splitlines():
        _, kind, path = line.split(":", 2)
        names = {"memory": f"memory{path}/memory.oom_control", "": f"{path.lstrip('/')}/memory.events"}
        file = GROUPS / names.get(kind, "")
        if file.is_file():
            counts = dict(each.split() for each in file.read_text().splitlines())
            kills[file] = int(counts.get("oom_kill", 0))
    return kills


def report(code: int, failed: Path) -> int:
    """What srun should hear of ``code``; leaves it in ``failed`` if it is that of the first rank that failed."""
    env = os.environ
    others = env["SLURM_PROCID"] != "0" and code in (REFUSED, ENDED)
    if code in (0, STOPPED) or others:
        return 0
    words = ["1", env["SLURM_STEP_ID"]] if code == LOST else [str(code), env["SLURM_STEP_ID"], env["SLURMD_NODENAME"]]
    try:
        with failed.open("x") as file:
            file.write(" ".join(words))
    except OSError:
        pass  # another was first, or the disk is full: srun's code must do
    return int(words[0])


def say(line: str) -> None:
    """Write it into the job's log."""
    sys.stderr.write(f"{line}\n")  # in one piece: other ranks write there too
    sys.stderr.flush()


if __name__ == "__main__":
    main()
