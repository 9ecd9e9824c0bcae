"""Faults of disks and files."""

import contextlib
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from .job import Job, Rank
from .nodes import slurmd


@contextmanager
def fill(job: Job, rank: Rank, _: Rank) -> Iterator[None]:
    """The disk of runs is full."""
    ballast = job.disk / "ballast"
    try:
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1 << 12))
        yield
    finally:
        ballast.unlink()


@contextmanager
def read_only(job: Job, rank: Rank, _: Rank) -> Iterator[None]:
    """The folder of checkpoints, on all nodes."""
    nodes = [("nsenter", f"--target={each.pid}", "--mount") for each in job.ranks()]
    folder = str(job.run / "checkpoints")
    for node in nodes:
        job.cluster.run(*node, "mount", "--bind", folder, folder)
    try:
        for node in nodes:
            job.cluster.run(*node, "mount", "-o", "remount,bind,ro", folder)
        yield
    finally:
        for number in range(1, 5):
            daemon = ("nsenter", f"--target={slurmd(job, f'n{number}')}", "--mount")
            job.cluster.attempt(*daemon, "umount", "--lazy", folder)


@contextmanager
def half_image(job: Job, rank: Rank, _: Rank) -> Iterator[None]:
    """Somebody begins to copy an image into the data folder."""
    source = next((job.cluster.path / "images" / "train").rglob("*.png"))
    half = source.with_name("zzz.png")
    half.write_bytes(source.read_bytes()[:100])
    try:
        yield
    finally:
        half.unlink()


@contextmanager
def half_checkpoint(job: Job, rank: Rank, _: Rank) -> Iterator[None]:
    """The newest is cut off, and a rank killed: only who goes on from it can notice."""
    for each in job.ranks():
        os.kill(each.pid, signal.SIGKILL)
    newest = max((job.run / "checkpoints").glob("step-*.pt"), key=lambda file: file.stat().st_mtime)
    os.truncate(newest, newest.stat().st_size // 2)
    yield
