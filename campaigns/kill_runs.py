"""The run that is killed: a tiny one that has all that a run can be doing, and what it is doing now."""

from pathlib import Path

import numpy as np
from PIL import Image

from hpcfast.runs import events

CONFIG = """
runs: {folder}/runs
threat: {{norm: L2, eps: 1.0}}
data: {{path: {folder}/data, channels: 1, size: 8, batch_size: 4, augment: pad_crop_flip, threads: 1}}
model: {{name: cifar_resnet8, options: {{width: 2}}, mean: [0.5], std: [0.25]}}
attack: {{name: fgsm_rs, alpha: 0.01, start: zero}}  # so weak that the guard steps in
guard:
  images: 12
  limit: 0.05
  attack: {{name: pgd, steps: 3}}
  ladder: [{{name: fgsm_rs, alpha: 0.02}}, {{name: pgd, steps: 3}}]
epochs: 3
optim: {{lr: 0.1, lr_batch: 8}}
schedule: {{name: cosine, warmup: 1 epoch}}
ema: 0.9
checkpoint: {{minutes: 0.001}}
log_every: 1
evaluation:
  monitor: {{attack: {{name: pgd, steps: 2}}}}
  final: {{attack: {{name: pgd, steps: 3, restarts: 2}}}}
  batch_size: 4
"""
KINDS = ("start-up", "training", "checkpoint", "guard", "rollback", "evaluation")


def write_data(folder: Path) -> None:
    """Three classes of grey 8x8 images, brighter or darker, and the configuration."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 8)):
        for label in range(3):
            images = folder / "data" / split / str(label)
            images.mkdir(parents=True)
            for i in range(count):
                pixels = generator.normal(60 + 60 * label, 40, (8, 8)).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(images / f"{i}.png")
    (folder / "tiny.yaml").write_text(CONFIG.format(folder=folder))


def doing(run: Path, before: int) -> str:
    """What the run is busy with, from its log, of which the first ``before`` events are an earlier job's."""
    now, last = "start-up", ""
    for event in events.read(run / "events.jsonl")[before:]:
        match event["key"]:
            case "epoch_start":
                now = "training"
            case "epoch_stop":
                now = "guard"
            case "guard":
                now = "rollback" if event["value"]["seen"] - event["value"]["strong"] > 0.05 else "evaluation"
            case "eval_start":
                now = "evaluation"
            case "eval_stop" if last == "eval_start":  # the final one's numbers are in the summary, not in the log
                now = "end"
        last = event["key"]
    # Without or with a thread that writes; at first half a file may still lie there from the job before.
    writing = last == "checkpoint_start" or (now != "start-up" and any((run / "checkpoints").glob("*.part")))
    return "checkpoint" if writing and now != "rollback" else now
