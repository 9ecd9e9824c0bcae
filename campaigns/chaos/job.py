"""A training job of three ranks, and what its owner does: whenever it is gone unfinished, the same command again."""

import contextlib
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from hpcfast.runs import events
from tests.conftest import write_images
from tests.slurm import conftest

from .record import Record

NODES = 3
"""Of the cluster's four: one is spare, as clusters have them."""
PACE = 0.3
"""Seconds that a step takes at least; work for them would only keep this machine's cores from starting ranks."""
STEPS = 40
"""In an epoch: 12 seconds."""
BATCH = 4
STALL = 10
"""HPCFAST_STALL_SECONDS: how long a rank may be silent."""
PATIENCE = 300.0
"""Seconds until a run must make a step."""
DISK = "4m"
"""The size of the file system of runs."""
ENDED = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED"}
OVERLAY = Path(__file__).with_name("overlay")
CONFIG = """
threat: {{norm: L2, eps: 1.0}}
data: {{path: {data}, channels: 1, size: 10, batch_size: {batch}, threads: 1}}
model: {{name: cifar_resnet8, options: {{width: 2}}, mean: [0.5], std: [0.25]}}
attack: {{name: fgsm_rs}}
guard: {{every: 0}}
epochs: {epochs}
optim: {{lr: 0.02, lr_batch: 8}}
schedule: {{name: cosine}}
checkpoint: {{minutes: 0.08}}
evaluation:
  every: 0
  final: {{attack: {{name: pgd, steps: 1}}}}
  monitor: {{attack: {{name: pgd, steps: 1}}}}
log_every: 1
"""


@dataclass(frozen=True)
class Rank:
    """A process that trains."""

    number: int
    node: str
    pid: int


class Impossible(Exception):
    """This machine lacks what a fault takes."""


class Job:
    """Run ``name`` on the cluster; ``record`` keeps what is done for it."""

    def __init__(self, cluster: conftest.Cluster, name: str, epochs: int, record: Record, **variables: str) -> None:
        self.cluster, self.name, self.record, self._variables = cluster, name, record, variables
        self.disk = cluster.daemons / "shared" / "disk"
        self.run = self.disk / name
        self.config = cluster.path / f"{name}.yaml"
        self.config.write_text(CONFIG.format(data=cluster.path / "images", batch=BATCH, epochs=epochs))
        self.number = ""

    def submit(self, why: str) -> None:
        """What the owner types."""
        self.record.note("submitted", why)
        self.number = self.cluster.submit(
            "train.sh", NODES, self.config.name, f"name={self.name}", f"runs={self.disk}", flags=("--time=4:00:00",),
            HOROVOD_FUSION_THRESHOLD="0", HPCFAST_STALL_SECONDS=str(STALL), HPCFAST_MAX_REQUEUES="20",
            PYTHONPATH=f"{OVERLAY}:{conftest.ROOT}", **self._variables,
        )  # fmt: skip

    @property
    def finished(self) -> bool:
        return (self.run / "summary.json").exists()

    @property
    def gone(self) -> bool:
        """Whether the job has ended, whatever became of it."""
        return self.cluster.state(self.number)["JobState"] in ENDED

    def tend(self) -> bool:
        """Submit the job again if it is gone; whether it was."""
        if self.finished or not self.gone:
            return False
        state = self.cluster.state(self.number)
        self.submit(f"job {self.number} ended as {state['JobState']} {state['ExitCode']}")
        return True

    def step(self) -> int:
        """The farthest step that was logged."""
        return max((event["step"] for event in events.read(self.run / "events.jsonl")), default=0)

    def until(self, met: Callable[[], bool], seconds: float = math.inf, tend: bool = True) -> None:
        """Wait until ``met``, and tend the job meanwhile."""
        deadline = time.monotonic() + seconds
        while not met():
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {seconds:.0f} s; job {self.number}, step {self.step()}")
            if tend:
                self.tend()
            time.sleep(0.3)

    def pass_time(self, moment: float) -> None:
        """Tend the job until ``moment`` of the monotonic clock."""
        self.until(lambda: time.monotonic() > moment)

    def until_training(self) -> None:
        """Wait until the run makes new steps, or is finished."""
        before = self.step()
        self.until(lambda: self.finished or self.step() > before, PATIENCE)

    def ranks(self) -> list[Rank]:
        """Its ranks that run, by number."""
        found = []
        for process in processes(self.cluster):
            with contextlib.suppress(psutil.Error):
                words, env = process.cmdline(), process.environ()
                if words[1:] and words[1].endswith("/hpcfast") and env.get("SLURM_JOB_ID") == self.number:
                    found.append(Rank(int(env["SLURM_PROCID"]), env["SLURMD_NODENAME"], process.pid))
        return sorted(found, key=lambda rank: rank.number)


Inject = Callable[[Job, Rank, Rank], contextlib.AbstractContextManager[object]]
"""A fault: a block in which it is there, for a job, one of its ranks and another one."""


def processes(cluster: conftest.Cluster) -> Iterator[psutil.Process]:
    """All that belong to a cluster; other clusters may run on this machine."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("SLURM_CONF") == cluster.env["SLURM_CONF"] and process.pid != os.getpid():
                yield process


@contextlib.contextmanager
def cluster() -> Iterator[conftest.Cluster]:
    """Four nodes, images, and a small file system for runs, which all nodes see; they end with the block."""
    if os.geteuid() != 0:
        sys.exit("faults of nodes, networks and disks need root")
    with conftest.daemons() as (folder, env):
        path, disk, pokes = folder.parent, folder / "shared" / "disk", folder.parent / "pokes"
        for made in (disk, pokes, path / "tmp"):
            made.mkdir()
        variables = conftest.checkout(path, "/dev/shm")
        write_images(path / "images", {"train": BATCH * NODES * STEPS // 3, "val": 4}, classes=3)
        variables |= {"CHAOS_POKES": str(pokes), "TMPDIR": str(path / "tmp"), "HOME": os.environ.get("HOME", str(path))}
        made_cluster = conftest.Cluster(path, {**env, **variables}, folder)
        made_cluster.run("mount", "-t", "tmpfs", "-o", f"size={DISK}", "none", str(disk))
        try:
            yield made_cluster
        finally:
            made_cluster.attempt("scancel", "--full", "--signal=KILL", "--user=root")
            made_cluster.attempt("umount", "--lazy", str(disk))
