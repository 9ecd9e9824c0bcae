"""The folder of runs: can every node write there, do all see the same files, how fast is it."""

import contextlib
import os
import secrets
import shutil
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from hpcfast.distributed import comm
from hpcfast.doctor.finding import Answers, Check, Finding, Job, hosts

SLOW = 20.0
"""MB/s: with less, a checkpoint of ResNet-50 and its momentum (200 MB) takes more than ten seconds."""

CURE = "give --run-dir, and runs= for training, a folder with room that you may write and that all nodes share"


class Speed(NamedTuple):
    """Of a large file, MB/s."""

    write: float
    read: float
    path: str


def _shared(job: Job) -> str:
    """Rank 0 leaves a file that all read, and each node writes one; what went wrong here, else ''. A collective."""
    left = comm.on_root(lambda: _leave_token(job.folder))
    if isinstance(left, str):
        return left
    place, text, made = left
    problem = _see(place, text, job.world)
    comm.barrier()  # until all have looked
    if job.world.is_root:  # leave no trace
        shutil.rmtree(place, ignore_errors=True)
        with contextlib.suppress(OSError):  # another job may use the folder by now
            for path in made:
                path.rmdir()
    return problem


def _leave_token(folder: Path) -> tuple[Path, str, list[Path]] | str:
    """A new folder with a file, the file's text, and the parents that were made; or what went wrong."""
    try:
        made = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        place, text = Path(tempfile.mkdtemp(prefix=".doctor-", dir=folder)), secrets.token_hex()
        (place / "token").write_text(text)
    except OSError as error:
        return f"cannot be written: {error}"
    return place, text, made


def _see(place: Path, text: str, world: comm.World) -> str:
    try:
        if (place / "token").read_text() != text:
            return f"{place.parent} is another folder"
        if world.local_rank == 0:
            (place / f"rank-{world.rank}").write_text(text)
    except FileNotFoundError:
        return f"rank 0's file in {place.parent} is not there"
    except OSError as error:
        return f"cannot be written: {error}"
    return ""


def judge_shared(answers: Answers) -> Finding:
    """``value``: what went wrong, else ''."""
    wrong = [answer for answer in answers if answer.value]
    if not wrong:
        return Finding("written by every node, seen by every rank")
    return Finding(f"{wrong[0].value} (on {hosts(wrong)})", "bad", CURE)


def _speed(job: Job) -> Speed | str:
    """Of a file that rank 0 writes and reads, past the node's memory as far as the kernel does as it is told."""
    if not job.world.is_root:
        return ""
    block, count = os.urandom(2**20), 8 if job.quick else 64
    existing = next(path for path in (job.folder, *job.folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=existing, buffering=0) as file:
            start = time.perf_counter()
            for _ in range(count):
                file.write(block)
            os.fsync(file.fileno())
            written = time.perf_counter()
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            file.seek(0)
            again = time.perf_counter()
            while file.read(2**20):
                pass
            done = time.perf_counter()
    except OSError as error:
        return f"cannot be written: {error}"
    return Speed(count / (written - start), count / (done - again), str(existing))


def judge_speed(answers: Answers) -> Finding:
    """``value``: on rank 0 a Speed, or what went wrong."""
    speed = answers[0].value
    if isinstance(speed, str):
        return Finding(speed, "bad", CURE)
    told = f"{speed.write:,.0f} MB/s written, {speed.read:,.0f} read"
    numbers = {"write_mb_per_second": speed.write, "read_mb_per_second": speed.read}
    if speed.write < SLOW:
        cure = "take a parallel or local file system (runs=); or write checkpoints less often (checkpoint: in a config)"
        return Finding(f"{told}, in {speed.path}", "warn", cure, numbers)
    return Finding(told, numbers=numbers)


CHECKS = (
    Check("run directory", _shared, judge_shared),
    Check("run directory's speed", _speed, judge_speed),
)
