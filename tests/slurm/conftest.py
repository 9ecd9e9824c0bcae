"""A real Slurm of four nodes on this machine, on which the batch scripts of slurm/ run as they stand."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import write_images

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
CONFIG = """
threat: {{norm: L2, eps: 1.0}}
data: {{path: {data}, channels: 1, size: 10, batch_size: 4, threads: 1}}
model: {{name: cifar_resnet8, options: {{width: 2}}, mean: [0.5], std: [0.25]}}
attack: {{name: fgsm_rs}}
guard: {{every: 0}}
epochs: 2
optim: {{lr: 0.1, lr_batch: 8}}
schedule: {{name: cosine}}
evaluation:
  every: 0
  monitor: {{attack: {{name: pgd, steps: 1}}}}
  final: {{attack: {{name: pgd, steps: 1}}}}
log_every: 1
"""
# For the configurations of configs/: less work, for CPUs.
SMALL = (
    "epochs=2", 'schedule={"name":"cosine"}', "model.name=cifar_resnet8", 'model.options={"width":2}', "data.size=40",
    "data.batch_size=2", "data.threads=1", "guard.every=0", "evaluation.every=0",
    'evaluation.final={"attack":{"name":"pgd","steps":1}}',
)  # fmt: skip
ENDS = "epochs=60"
PHASES = 'phases=[{"epochs":1,"size":32,"batch_size":4},{"epochs":1,"size":40,"batch_size":2}]'


@dataclass(frozen=True)
class Cluster:
    """A folder to work in, which looks like a checkout, and Slurm's commands.

    ``daemons`` is the folder of scripts/start-test-cluster, ``flags`` are what each job must ask for, and ``user`` is a
    command that runs others as the user whose jobs they are; no command where that is who runs the tests.
    """

    path: Path
    env: dict[str, str]
    daemons: Path
    flags: tuple[str, ...] = ()
    user: tuple[str | Path, ...] = ()

    def attempt(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        settings = [f"{name}={value}" for name, value in {**self.env, **variables}.items()]
        return subprocess.run(
            [*self.user, "env", *settings, *command], cwd=self.path, env=self.env, text=True, timeout=300,
            capture_output=True, check=False,
        )  # fmt: skip

    def run(self, *command: str, **variables: str) -> str:
        done = self.attempt(*command, **variables)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def submit(
        self, script: str | Path, nodes: int, *arguments: str, flags: tuple[str, ...] = (), **variables: str
    ) -> str:
        """The number of a job of one rank a node."""
        size = (f"--nodes={nodes}", "--ntasks-per-node=1", "--gpus-per-node=0", "--cpus-per-task=1")
        command = ("sbatch", "--parsable", *size, *self.flags, *flags, str(Path("slurm") / script), *arguments)
        return self.run(*command, **variables).strip()

    def train(self, name: str, nodes: int, *overrides: str, flags: tuple[str, ...] = (), **env: str) -> str:
        """The number of a job that trains run ``name``."""
        return self.submit("train.sh", nodes, "tiny.yaml", f"name={name}", *overrides, flags=flags, **env)

    def state(self, job: str) -> dict[str, str]:
        """What ``scontrol show job`` says."""
        text = self.run("scontrol", "show", "job", job)
        return dict(re.findall(r"([\w:/]+)=(.*?)(?=\s+[\w:/]+=|\s*\Z)", text, re.DOTALL))

    def until(self, met: Callable[[], Any], seconds: float = 400) -> None:
        """Wait until ``met`` returns something true."""
        deadline = time.monotonic() + seconds
        while not met():
            assert time.monotonic() < deadline, "\n".join(path.read_text() for path in self.path.glob("*.log"))
            time.sleep(0.2)

    def end(self, job: str, seconds: float = 400) -> str:
        """Wait for the job's end, and return how it ended, such as "COMPLETED 0:0"."""
        ended = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")
        self.until(lambda: self.state(job)["JobState"] in ended, seconds)
        state = self.state(job)
        return f"{state['JobState']} {state['ExitCode']}"

    def log(self, job: str) -> str:
        path = Path(self.state(job)["StdOut"])
        return path.read_text() if path.exists() else f"{path} is not there: {self.state(job)}"

    def values(self, name: str, key: str) -> list[Any]:
        """What run ``name`` has logged under ``key`` so far."""
        path = self.path / "runs" / name / "events.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [event["value"] for event in map(json.loads, lines) if event["key"] == key]

    def until_trained(self, name: str, steps: int = 1) -> None:
        """Wait until run ``name`` has logged ``steps`` more of its steps."""
        before = len(self.values(name, "train_loss"))
        self.until(lambda: len(self.values(name, "train_loss")) >= before + steps)

    @property
    def conf(self) -> str:
        """What SLURM_CONF is for all processes of this cluster, and for none of another one."""
        return self.env["SLURM_CONF"]

    @property
    def networks(self) -> str:
        """What the names of the nodes' networks begin with; "" where all use this machine's."""
        path = self.daemons / "etc" / "network"
        return path.read_text().strip() if path.exists() else ""

    @property
    def tracking(self) -> str:
        """Whether "cgroup", and signals reach only slurmstepd's own children, or "linuxproc", and they reach all."""
        path = self.daemons / "etc" / "tracking"
        return path.read_text().strip() if path.exists() else "linuxproc"

    def start_node(self, node: str) -> None:
        """Start the daemon of a node again, after somebody killed it."""
        subprocess.run([self.daemons / "etc" / "start-node", node], check=True, timeout=60)
        self.until(lambda: "IDLE" in self.run("scontrol", "show", "node", node))

    def weights(self, name: str) -> bytes:
        return (self.path / "runs" / name / "model.safetensors").read_bytes()


def pages() -> list[str]:
    """The sbatch lines of docs/cluster.md that submit a script of slurm/, as they stand there."""
    text = (ROOT / "docs" / "cluster.md").read_text()
    return [line.rstrip() for line in re.findall(r"^(sbatch [^#\n]*slurm/\w+\.sh[^#\n]*)", text, re.MULTILINE)]


def make_imagenet(cluster: Cluster) -> Path:
    """A synthetic ImageNet where the configurations look for it; their other data sets are made of it, too."""
    folder = cluster.path / "data" / "imagenet"
    cluster.run("hpcfast", "data", "synthetic", str(folder), "--images", "32", "--classes", "4", "--size", "96x80")
    for other in ("cifar10", "restricted-imagenet"):
        folder.with_name(other).symlink_to(folder)
    return folder


@pytest.fixture(scope="session")
def imagenet(cluster: Cluster) -> Path:
    """See :func:`make_imagenet`."""
    return make_imagenet(cluster)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """One that accepts every batch script."""
    with daemons() as (folder, env):
        path = folder.parent
        yield Cluster(path, {**env, **checkout(path, "/dev/shm"), "HOME": os.environ.get("HOME", str(path))}, folder)


@pytest.fixture(scope="session")
def strange() -> Iterator[Cluster]:
    """One as sites are (scripts/strange-site.sh says how), with the jobs of an ordinary user where that can be."""
    with daemons("--strange") as (folder, env):
        user = (folder / "etc" / "as-user",)
        home = subprocess.check_output([*user, "printenv", "HOME"], env=env, text=True).strip()
        path = Path(home) / "hpcfast"
        path.mkdir()
        variables = checkout(path, "$TMPDIR")
        subprocess.run(["chown", "--recursive", "--no-dereference", "--reference", home, path], check=True)
        yield Cluster(path, {**env, **variables}, folder, ("--account=any", "--mem=2G", "--time=30"), user)


@contextlib.contextmanager
def daemons(*flags: str) -> Iterator[tuple[Path, dict[str, str]]]:
    """The folder of a Slurm of four nodes, and the variables with which to use it."""
    if not (shutil.which("slurmctld") and shutil.which("munged")):
        message = "no Slurm on this machine: apt install slurm-wlm munge libpmix-dev"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    # Not pytest's own folder: munged wants one that everybody may enter.
    path = Path(tempfile.mkdtemp(prefix="hpcfast-slurm-"))
    path.chmod(0o755)
    folder = path / "daemons"
    env = {"PATH": f"{BIN}:{os.environ['PATH']}", "SLURM_CONF": f"{folder}/etc/slurm.conf"}
    subprocess.run([ROOT / "scripts" / "start-test-cluster", *flags, folder], env=env, check=True, timeout=60)
    try:
        yield folder, env
    finally:
        subprocess.run([ROOT / "scripts" / "stop-test-cluster", folder], env=env, check=True, timeout=60)
        shutil.rmtree(path)


def checkout(path: Path, scratch: str) -> dict[str, str]:
    """Make a folder look like a checkout in which somebody works, and return the variables that jobs there need."""
    for name in ("slurm", "configs", "hpcfast"):
        (path / name).symlink_to(ROOT / name)
    (path / ".venv").symlink_to(BIN.parent)
    (path / "site.sh").write_text(
        f'export PATH="{BIN}:$PATH"\nHPCFAST_SCRATCH={scratch!r}\nHPCFAST_MAX_REQUEUES=${{HPCFAST_MAX_REQUEUES:-3}}\n'
    )
    data = write_images(path / "data", {"train": 16, "val": 4}, classes=3)
    (path / "tiny.yaml").write_text(CONFIG.format(data=data))
    return {
        "HPCFAST_SITE": str(path / "site.sh"), "OMP_NUM_THREADS": "1",
        "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    }  # fmt: skip


@pytest.fixture
def idle(cluster: Cluster) -> None:
    """All nodes are idle, and no job is still about to leave them: a job of two gets n1 and n2."""
    cluster.until(lambda: not cluster.run("squeue", "--noheader"))
    cluster.until(lambda: cluster.run("sinfo", "--noheader", "--states=idle", "--format=%D").strip() == "4")


@pytest.fixture(scope="session")
def uninterrupted(cluster: Cluster) -> str:
    """The name of a run that nothing came between."""
    assert cluster.end(cluster.train("quiet", 2, ENDS)) == "COMPLETED 0:0"
    return "quiet"


@pytest.fixture(scope="session")
def undisturbed(strange: Cluster) -> str:
    """The name of a run of two nodes that nothing came between."""
    job = strange.train("undisturbed", 2, ENDS)
    assert strange.end(job) == "COMPLETED 0:0", strange.log(job)
    return "undisturbed"
