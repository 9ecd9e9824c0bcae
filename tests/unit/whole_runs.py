"""What tests of whole runs share: something that happens at a chosen call, and what a run has left."""

import itertools
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hpcfast.config import RunConfig
from hpcfast.models import saved
from hpcfast.runs import events
from hpcfast.training import checkpoint


class Killed(BaseException):
    """What ends the process in the middle."""


def die() -> None:
    raise Killed


def terminate() -> None:
    """Be sent SIGTERM; its handler has run when this returns."""
    os.kill(os.getpid(), signal.SIGTERM)


def at_call(patch: pytest.MonkeyPatch, target: object, name: str, call: int, act: Callable[[], None]) -> None:
    """Let ``act`` happen before the ``call``-th call of ``target.name`` (from 1)."""
    original, calls = getattr(target, name), itertools.count(1)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == call:
            act()
        return original(*args, **kwargs)

    patch.setattr(target, name, wrapped)


def log(config: RunConfig) -> list[dict[str, Any]]:
    return events.read(config.folder / "events.jsonl")


def logged(config: RunConfig, key: str) -> list[Any]:
    """All values of ``key``, in order."""
    return [event["value"] for event in log(config) if event["key"] == key]


def losses(config: RunConfig) -> dict[int, set[float]]:
    """All losses logged for each step."""
    found: dict[int, set[float]] = {}
    for event in log(config):
        if event["key"] == "train_loss":
            found.setdefault(event["step"], set()).add(event["value"])
    return found


def weights(config: RunConfig) -> dict[str, Tensor]:
    return saved.load_weights(config.folder / "model.safetensors")


def different(one: dict[str, Tensor], other: dict[str, Tensor]) -> list[str]:
    """Names of the tensors that are not equal bit for bit."""
    return [name for name in one.keys() | other.keys() if not torch.equal(one[name], other[name])]


def last_state(config: RunConfig) -> dict[str, Any]:
    """The state to go on from."""
    state = checkpoint.load_last(config.folder / "checkpoints")
    assert state is not None
    return state


def save_checkpoint(folder: Path, step: int, state: dict[str, Any], keep: int = 2) -> None:
    checkpoint.write(folder, step, checkpoint.serialise(state), keep)


def assert_equal_ends(config: RunConfig, other: RunConfig) -> None:
    assert not different(weights(config), weights(other))
    assert losses(config) == losses(other), "some step was trained otherwise the second time"
    ends = [json.loads((each.folder / "summary.json").read_text()) for each in (config, other)]
    for key in ("clean_accuracy", "robust_accuracy", "catastrophic_overfitting", "epochs"):
        assert ends[0][key] == ends[1][key]
