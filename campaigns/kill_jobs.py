"""Jobs to be killed: ranks of ``hpcfast train``, started by a launcher, or forked, which saves seconds of imports.

A process that has imported everything, and has one thread, forks each rank; that takes milliseconds.
"""

import atexit
import faulthandler
import math
import os
import re
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import psutil

from hpcfast import cli

LAUNCHERS = {
    "horovodrun": ["horovodrun", "--gloo", "-np", "{ranks}", sys.executable],
    "mpirun": ["mpirun", "--oversubscribe", "-n", "{ranks}", sys.executable],
    "torchrun": ["torchrun", "--nproc-per-node", "{ranks}"],
}

LAST_WORDS = 5.0
"""Seconds in which a rank that hangs may write where."""
_ENQUEUES = re.compile(r'first\):\n  File "[^"]*/horovod/torch/mpi_ops\.py", line \d+ in _\w*async\n')


def is_horovods_deadlock(log: str) -> bool:
    """Whether a rank's last words say that it hangs where Horovod 0.28.1 itself deadlocks once a peer has died.

    The main thread hands over a tensor: it has Python's lock and waits for Horovod's. Horovod's own thread, which
    gives up, has that one and, to free a tensor, waits for Python's. With it our watchdog waits too; only a launcher,
    which ends all ranks when one has died, can help, and here there is none.
    """
    return bool(_ENQUEUES.search(log.rpartition("Fatal Python error: Aborted")[2]))


class Forked:
    """A job of ``size`` ranks without a launcher; of several, Gloo's rendezvous is a further process."""

    def __init__(self, size: int, arguments: list[str], log: Path) -> None:
        environments: list[dict[str, str]] = [{}]
        self._server = 0
        if size > 1:
            self._server, port = _rendezvous(log)
            environments = [_gloo(rank, size, port) for rank in range(size)]
        self.ranks = [_fork(lambda env=env: _train(env, arguments), log) for env in environments]  # type: ignore[misc]
        self._codes: dict[int, int] = {}

    def running(self) -> list[int]:
        """Process ids of the ranks that have not ended."""
        for pid in self.ranks:
            if pid not in self._codes and (ended := os.waitpid(pid, os.WNOHANG))[0]:
                self._codes[pid] = os.waitstatus_to_exitcode(ended[1])
        return [pid for pid in self.ranks if pid not in self._codes]

    def end(self, limit: float) -> tuple[list[int], bool]:
        """Wait for the ranks' exit codes, after ``limit`` seconds kill; and say whether that was necessary."""
        left = self._wait(limit)
        for pid in left:
            os.kill(pid, signal.SIGABRT)  # on which a rank writes where its threads are
        for pid in self._wait(LAST_WORDS):
            os.kill(pid, signal.SIGKILL)
        self._wait(math.inf)
        if self._server:
            os.kill(self._server, signal.SIGKILL)
            os.waitpid(self._server, 0)
            self._server = 0
        return [self._codes[pid] for pid in self.ranks], bool(left)

    def _wait(self, limit: float) -> list[int]:
        """Return the ranks that have not ended after ``limit`` seconds."""
        deadline = time.monotonic() + limit
        while (left := self.running()) and time.monotonic() < deadline:
            time.sleep(0.005)
        return left


class Launched:
    """A job of ``size`` ranks under one of ``LAUNCHERS``."""

    def __init__(self, launcher: str, size: int, arguments: list[str], log: Path) -> None:
        root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
        begin = [word.format(ranks=size) for word in LAUNCHERS[launcher]]
        with log.open("a") as out:
            self._process = subprocess.Popen(
                [*begin, "-m", "hpcfast", *arguments],
                env=os.environ | root, stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip

    def running(self) -> list[int]:
        """Process ids of the ranks that have not ended, by rank; before they have started, the launcher's."""
        if self._process.poll() is not None:
            return []
        family = psutil.Process(self._process.pid).children(recursive=True)
        return [child.pid for child in family if _is_rank(child)] or [self._process.pid]

    def end(self, limit: float) -> tuple[list[int], bool]:
        """Wait for the launcher's exit code, after ``limit`` seconds kill; and say whether that was necessary."""
        family = psutil.Process(self._process.pid).children(recursive=True) if self.running() else []
        try:
            self._process.wait(limit)
            hung = False
        except subprocess.TimeoutExpired:
            hung = True
            self._process.kill()
            self._process.wait()
        # What the launcher has left behind would hold the run's lock.
        _, left = psutil.wait_procs(family, timeout=limit)
        for process in left:
            process.kill()
        psutil.wait_procs(left)
        return [self._process.returncode], hung or bool(left)


def _is_rank(process: psutil.Process) -> bool:
    try:
        words = [word for word in process.cmdline() if word != "-u"]  # torchrun adds it
        return words[1:3] == ["-m", "hpcfast"]
    except psutil.Error:  # it has just ended
        return False


def _train(environment: dict[str, str], arguments: list[str]) -> None:
    os.environ.update(environment)
    sys.argv = ["hpcfast", *arguments]
    cli.main()


def _gloo(rank: int, size: int, port: int) -> dict[str, str]:
    """What horovodrun tells a rank, all on this machine."""
    numbers = {"RANK": rank, "SIZE": size, "LOCAL_RANK": rank, "LOCAL_SIZE": size, "CROSS_RANK": 0, "CROSS_SIZE": 1}
    return {
        **{f"HOROVOD_{name}": str(number) for name, number in numbers.items()},
        "HOROVOD_CONTROLLER": "gloo",
        "HOROVOD_CPU_OPERATIONS": "gloo",
        "HOROVOD_GLOO_IFACE": "lo",
        "HOROVOD_GLOO_RENDEZVOUS_ADDR": "127.0.0.1",
        "HOROVOD_GLOO_RENDEZVOUS_PORT": str(port),
        "HOROVOD_HOSTNAME": "localhost",
    }


def _rendezvous(log: Path) -> tuple[int, int]:
    """Start the server through which ranks find one another; a process, since threads must not be forked."""
    reading, writing = os.pipe()

    def serve() -> None:
        from horovod.runner.http.http_server import RendezvousServer

        server = RendezvousServer()
        port = server.start()
        server.init([])
        os.write(writing, str(port).encode())
        signal.pause()

    pid = _fork(serve, log)
    port = int(os.read(reading, 16))
    os.close(reading)
    os.close(writing)
    return pid, port


def _fork(work: Callable[[], object], log: Path) -> int:
    """Start a process that does ``work``, writes to ``log`` and ends with the exit code a script's would be."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        atexit._clear()  # the parent's cleaning up is the parent's
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(out, 1)
        os.dup2(out, 2)
        faulthandler.enable()
        work()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
    except BaseException:  # noqa: BLE001 - it must not go up into the parent's code
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        os._exit(code)
