"""Real ranks: fixtures that start jobs on a tiny data set, forked or with horovodrun and mpirun."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import forked

WORKERS = Path(__file__).parent / "workers"
BIN = Path(sys.executable).parent
LIMIT = 200
"""Seconds that a job may take."""
FORKED = "forked"
"""Ranks without a launcher: a job begins in a second instead of ten. Its exit code is that of a rank that failed."""
TORCH = "torch"
"""The same, as torchrun starts them: their engine is torch's."""
PLAIN = "plain"
"""One process, for scripts that fork ranks themselves."""
LAUNCHERS = {
    "gloo": ["horovodrun", "--gloo", "-np"],
    "horovodrun-mpi": ["horovodrun", "--mpi", "-np"],
    "mpirun": ["mpirun", "--oversubscribe", "-n"],
    "torchrun": ["torchrun", "--no-python", "--nproc-per-node"],
}
CONFIG = """
threat: {{norm: L2, eps: 1.0}}
data: {{path: {data}, channels: 1, size: 8, batch_size: 4, held_out: 12}}
model: {{name: cifar_resnet8, options: {{width: 4}}, mean: [0.5], std: [0.25]}}
attack: {{name: fgsm_rs}}
guard: {{images: 12, limit: 0.9, attack: {{name: pgd, steps: 2}}}}
epochs: 3
optim: {{lr: 0.1, lr_batch: 8}}
schedule: {{name: cosine, warmup: 1 epoch}}
log_every: 1
evaluation:
  monitor: {{attack: {{name: pgd, steps: 2}}}}
  final: {{attack: {{name: pgd, steps: 3, restarts: 2}}}}
"""


@dataclass(frozen=True)
class Job:
    """How a job of several ranks ended."""

    code: int
    output: str


@dataclass(frozen=True)
class Playground:
    """A folder with a tiny data set and a config, and a way to start ranks in it."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "tiny.yaml"

    def start(self, ranks: int, *command: str, launcher: str = FORKED) -> Job:
        """Run ``python command`` on ``ranks`` ranks; 0 means in a process that is no rank."""
        # One thread a rank: sums in another order would hide whether ranks agree.
        env = dict(os.environ, PATH=f"{BIN}:{os.environ['PATH']}", OMP_NUM_THREADS="1")
        env.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
        if launcher in (FORKED, TORCH):
            engine = "torch" if launcher == TORCH else "horovod"
            return Job(*forked.run(ranks, [*command], self.path, env, LIMIT, engine))
        started = [*([] if launcher == PLAIN else [*LAUNCHERS[launcher], str(ranks)]), sys.executable, *command]
        done = subprocess.run(
            started, cwd=self.path, env=env, text=True, timeout=LIMIT,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
        return Job(done.returncode, done.stdout)

    def hpcfast(self, ranks: int, *arguments: str, launcher: str = FORKED) -> Job:
        return self.start(ranks, "-m", "hpcfast", *arguments, launcher=launcher)

    def train(self, ranks: int, name: str, *arguments: str, launcher: str = FORKED) -> Job:
        return self.hpcfast(ranks, "train", str(self.config), f"name={name}", *arguments, launcher=launcher)

    def values(self, name: str, key: str) -> list[float]:
        """What run ``name`` logged under ``key``."""
        lines = (self.path / "runs" / name / "events.jsonl").read_text().splitlines()
        return [event["value"] for event in map(json.loads, lines) if event["key"] == key]


@pytest.fixture(scope="session")
def playground(tmp_path_factory: pytest.TempPathFactory) -> Playground:
    path = tmp_path_factory.mktemp("ranks")
    generator = np.random.default_rng(0)
    for split, count in (("train", 16), ("val", 7)):
        for label in range(3):
            folder = path / "data" / split / str(label)
            folder.mkdir(parents=True)
            for i in range(count):
                image = generator.normal(60 + 60 * label, 40, (8, 8)).clip(0, 255).astype(np.uint8)
                Image.fromarray(image).save(folder / f"{i}.png")
            # Every fifth by name, which is held out: what is trained on are the images above.
            for name in ("-0", "11a", "15a", "5a") if split == "train" else ():
                Image.new("L", (8, 8), 60 + 60 * label).save(folder / f"{name}.png")
    (path / "tiny.yaml").write_text(CONFIG.format(data=path / "data"))
    return Playground(path)
