"""Ranks that are forked from a process which has imported the libraries: their job begins at once.

They find one another over Gloo, as under horovodrun. Tests of launchers themselves start these.
"""

import atexit
import multiprocessing
import multiprocessing.connection
import os
import runpy
import secrets
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

LIBRARIES = (
    *("pytest", "torch", "torch.fx.experimental.optimization", "horovod.torch", "mpi4py", "nvidia.dali.pipeline"),
    *("nvidia.dali.fn", "timm", "pydantic", "omegaconf", "safetensors.torch", "PIL.Image", "sklearn.datasets"),
    *("pyautoattack", "matplotlib", "scipy.ndimage", "rich", "yaml", "typer"),
)
"""Imported once; none of them starts a thread, which would not survive a fork.

Nothing of hpcfast, so that a fork may import a copy of it that has a fault.
"""
GRACE = 10.0
"""Seconds that the other ranks have to notice that one has failed."""


def prepared() -> ForkServerContext:
    """Processes of it are forked from one that has imported the libraries."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(LIBRARIES))
    return context


def run(
    ranks: int, command: list[str], place: Path, env: dict[str, str], limit: float, engine: str = "horovod"
) -> tuple[int, str]:
    """Run ``python command`` in the folder ``place`` on ``ranks`` ranks; 0 means in a process that is no rank.

    Returns:
        The exit code of the rank that failed first (0: all ended well), and what they wrote, rank by rank.
    """
    context = prepared()
    with tempfile.TemporaryDirectory() as folder, _told(ranks, engine) as told:
        outputs = [Path(folder) / str(rank) for rank in range(max(ranks, 1))]
        jobs: list[BaseProcess] = []
        for rank, output in enumerate(outputs):
            jobs.append(context.Process(target=_rank, args=(command, place, env | told(rank), output)))
        for job in jobs:
            job.start()
        code = _ended(jobs, limit)
        return code, "".join(output.read_text(errors="replace") for output in outputs if output.exists())


@contextmanager
def _told(ranks: int, engine: str) -> Iterator[Callable[[int], dict[str, str]]]:
    """What a rank is told, so that it finds the others."""
    if not ranks:
        yield lambda rank: {}
    elif engine == "torch":
        name, size = secrets.token_hex(16), str(ranks)
        same = {"WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "GROUP_RANK": "0", "MASTER_ADDR": "127.0.0.1"}
        same |= {"TORCHELASTIC_RUN_ID": name, "HPCFAST_SECRET": name}
        yield lambda rank: same | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    else:
        with _rendezvous(ranks) as found:
            yield lambda rank: found | {"HOROVOD_RANK": str(rank), "HOROVOD_LOCAL_RANK": str(rank)}


@contextmanager
def _rendezvous(ranks: int) -> Iterator[dict[str, str]]:
    """What Horovod's ranks are told all alike."""
    from horovod.runner.http.http_server import RendezvousServer

    server = RendezvousServer()
    port = server.start()
    server.init([])
    values = {"SIZE": ranks, "LOCAL_SIZE": ranks, "CROSS_RANK": 0, "CROSS_SIZE": 1, "HOSTNAME": "localhost"}
    values |= {"CONTROLLER": "gloo", "CPU_OPERATIONS": "gloo", "GLOO_IFACE": "lo"}
    values |= {"GLOO_RENDEZVOUS_ADDR": "127.0.0.1", "GLOO_RENDEZVOUS_PORT": port}
    try:
        yield {f"HOROVOD_{name}": str(value) for name, value in values.items()}
    finally:
        server.stop()


def _ended(jobs: list[BaseProcess], limit: float) -> int:
    """The exit code of the first that failed; what is left some time after it is killed."""
    end, failed = time.monotonic() + limit, 0
    left = list(jobs)
    while left and time.monotonic() < end:
        multiprocessing.connection.wait([job.sentinel for job in left], end - time.monotonic())
        for job in [job for job in left if not job.is_alive()]:
            left.remove(job)
            if job.exitcode and not failed:
                failed, end = job.exitcode, time.monotonic() + GRACE
    for job in left:
        job.kill()
        job.join()
    return failed or int(bool(left))


def _rank(command: list[str], place: Path, env: dict[str, str], output: Path) -> None:
    """Be ``python command``."""
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT)
    for standard in (1, 2):
        os.dup2(descriptor, standard)
    os.chdir(place)
    os.environ.clear()
    os.environ.update(env)
    # As Python makes them where there is no terminal.
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", 1, closefd=False)
    code = 0
    try:
        _main(command)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:  # noqa: BLE001 - as the interpreter does
        traceback.print_exc()
        code = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(code)


def _main(command: list[str]) -> None:
    option, *rest = command
    if option == "-m":
        sys.argv, sys.path[:0] = rest, [str(Path.cwd())]
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path[:0] = command, [str(Path(option).parent)]
        runpy.run_path(option, run_name="__main__")
