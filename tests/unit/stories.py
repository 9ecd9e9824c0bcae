"""Run directories as runs would have left them, but written by hand: a report needs no training."""

import json
from pathlib import Path
from typing import Any

from hpcfast.config import RunConfig, load
from tests.conftest import RUN

STEPS = 10
"""An epoch has."""
SECONDS = 2.0
"""A step takes; the batch is 8."""
START = 1_800_000_000.0


class Story:
    """Events of a run, in the order in which they happen."""

    def __init__(self, ranks: int = 1) -> None:
        self.events: list[dict[str, Any]] = []
        self.step, self.time = 0, START
        self.start(ranks)

    def add(self, key: str, value: Any = None) -> None:
        epoch = self.step / STEPS
        event = {"time": self.time, "key": key, "value": value, "step": self.step, "epoch": epoch, "rank": 0}
        self.events.append(event)

    def start(self, ranks: int = 1, step: int = 0) -> None:
        """Begin, or go on from a checkpoint at ``step``."""
        self.step = step
        again = bool(self.events)
        self.add("init_start")
        self.add("init_stop")
        self.add("requeue" if again else "run_start", {"world_size": ranks, "device": "cpu"})

    def train(self, loss: float, steps: int = STEPS, stop: bool = True) -> None:
        """Train on, logging ``loss`` after every fifth step."""
        self.add("epoch_start")
        for _ in range(steps):
            self.step += 1
            self.time += SECONDS
            if self.step % 5 == 0:
                self.add("train_loss", loss)
        if stop:
            self.add("epoch_stop")

    def look(self, seen: float, strong: float) -> None:
        self.add("guard", {"seen": seen, "strong": strong, "alignment": 0.5})

    def roll_back(self, step: int) -> None:
        before, self.step = self.step, step
        attack = {"name": "pgd", "steps": 2, "restarts": 1}
        self.add("rollback", {"from_step": before, "to_step": step, "attack": attack})


def collapsing() -> Story:
    """Two epochs, of which the second was undone and trained again."""
    story = Story()
    story.train(loss=2.0)
    story.look(0.6, 0.5)
    story.train(loss=1.0)
    story.look(0.9, 0.1)
    story.roll_back(STEPS)
    story.train(loss=1.5)
    story.look(0.7, 0.6)
    story.add("clean_accuracy", 0.8)
    story.add("robust_accuracy", 0.6)
    return story


RESULT: dict[str, Any] = {
    "clean_accuracy": 0.75,
    "robust_accuracy": 0.5,
    "n_eval": 12,
    "ci95": {"clean_accuracy": [0.468, 0.911], "robust_accuracy": [0.254, 0.746]},
    "attack": {"name": "pgd", "steps": 3, "restarts": 2, "norm": "L2", "eps": 0.5},
}
"""The keys that a summary and an evaluation share."""

SUMMARY: dict[str, Any] = RESULT | {
    "status": "finished",
    "method": {"name": "fgsm_rs"},
    "device": "cpu",
    "world_size": 1,
    "train_images_per_second": 1234.5,
    "train_seconds": 60.0,
    "wall_seconds": 4000.0,
    "seconds": {"attack": 24.0, "update": 30.0, "data_wait": 6.0, "lost": 60.0},
    "versions": {"hpcfast": "0.1.0", "torch": "2.14.1"},
}

EVALUATION: dict[str, Any] = RESULT | {
    "seconds": 3.0,
    "curve": [{"eps": eps, "robust_accuracy": 0.75 - eps, "ci95": [0.6 - eps, 0.9 - eps]} for eps in (0.0, 0.25, 0.5)],
    "stages": [{"name": "apgd", "eps": 0.5, "tried": 9, "broken": 2}, {"name": "square", "tried": 7, "broken": 1}],
    "masking": {"suspicious": True, "signs": ["a black box breaks more"]},
    "versions": {},
}

EXPLANATION = {"alignment": {"image": {"mean": 0.25, "ci95": [0.125, 0.375], "n": 500}}}


def settings(folder: Path, *overrides: str) -> RunConfig:
    path = folder / "story.yaml"
    path.write_text(RUN)
    return load(path, ["data.path=data/none", "guard.every=1", *overrides])


def write(run: Path, story: Story, finished: bool = True, **files: Any) -> Path:
    """Write a run directory; ``files`` are JSON by their names without dots, e.g. ``explain``."""
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(settings(run.parent, f"runs={run.parent}").dump())
    (run / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in story.events))
    if finished:
        (run / "summary.json").write_text(json.dumps(SUMMARY))
    for name, content in files.items():
        (run / f"{name}.json").write_text(json.dumps(content))
    return run


def evaluate(run: Path, name: str, result: Any) -> None:
    folder = run / "evaluations" / name
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps(result))
