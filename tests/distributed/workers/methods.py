"""Trains with every method in turn: ``methods.py CONFIG [SETTING…]``; rank 0 prints a line of JSON for each.

Each line has the method, precision, the losses of its steps, and the parts of the state that ranks do not agree on.
"""

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from hpcfast.component import names
from hpcfast.config import load
from hpcfast.distributed import comm
from hpcfast.runs import events
from hpcfast.training import train
from hpcfast.training.state import Run

QUICK = {
    "free": "{name: free, replays: 2}",
    "mixed": "{name: mixed, threats: [{norm: L2, eps: 1.0}, {norm: Linf, eps: 0.1}], attack: {name: fgsm_rs}}",
    "pgd": "{name: pgd, steps: 2}",
    "trades": "{name: trades, steps: 2}",
}
SETTINGS = [
    "epochs=null",
    "steps=6",
    "schedule.warmup=0",
    "guard.every=0",
    "evaluation.every=0",
    "evaluation.final.images=4",
    "ema=0.9",
]


class Kept(Run):
    """The run, still there when training has ended."""

    last: "Kept"

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        Kept.last = self


def tensors(state: Any) -> Iterator[torch.Tensor]:
    """All tensors of a nested state."""
    if isinstance(state, torch.Tensor):
        yield state
    elif isinstance(state, dict | list | tuple):
        for value in state.values() if isinstance(state, dict) else state:
            yield from tensors(value)


def all_ranks_agree(state: Any) -> bool:
    digest = hashlib.sha256()
    for tensor in tensors(state):
        digest.update(tensor.detach().contiguous().numpy().tobytes())
    mine = digest.digest()
    return not comm.total(torch.tensor([int(mine != comm.on_root(lambda: mine))]))


def once(method: str, precision: str, path: Path, settings: list[str]) -> dict[str, Any]:
    name = f"{method}-{precision}-{world.size}"
    attack = f"attack={QUICK.get(method, '{name: ' + method + '}')}"
    config = load(path, [*SETTINGS, f"name={name}", attack, f"precision={precision}", *settings])
    train.train(config, world, overwrite=True)
    log = events.read(config.folder / "events.jsonl") if world.is_root else []
    return {
        "method": method,
        "precision": precision,
        "losses": [event["value"] for event in log if event["key"] == "train_loss"],
        "differ": [part for part, state in Kept.last.learner.state_dict().items() if not all_ranks_agree(state)],
        "updates": Kept.last.learner.updates + Kept.last.learner.scaler.skipped,
        "files": sorted(file.name for file in (config.folder / "checkpoints").glob("step-*6.pt")),
    }


if __name__ == "__main__":
    path, *settings = Path(sys.argv[1]), *sys.argv[2:]
    chosen = [text.removeprefix("only=") for text in settings if text.startswith("only=")]
    settings = [text for text in settings if not text.startswith("only=")]
    world = comm.init()
    train.Run = Kept
    for method in names("hpcfast.attacks"):
        for precision in ("fp32", "bf16", "fp16"):
            # Auto-PGD is for measuring only.
            if method != "apgd" and (not chosen or f"{method}-{precision}" in chosen):
                result = once(method, precision, path, settings)
                if world.is_root:
                    print(json.dumps(result), flush=True)
