"""What a checker reads: a run's settings that its log must agree with, and its events with their lines."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

Fault = tuple[int, str]
"""The line of the log, and what cannot be."""


@dataclass(frozen=True)
class Event:
    """A line of ``events.jsonl``; see docs/clock.md."""

    line: int
    time: float
    """Seconds since 1970."""
    key: str
    value: Any
    step: int
    epoch: float


@dataclass(frozen=True)
class Terms:
    """The settings in ``config.yaml`` that decide what the log of a whole run holds."""

    log_every: int
    every: int
    """Epochs between monitoring evaluations; 0: none."""
    confirm: int
    """Evaluations that confirm a target."""
    target: float | None
    goal: float | None
    """What the monitor must read: the target and its margin."""
    epochs: float | None
    """The run's length without a target; None where it is given otherwise."""
    steps: int | None
    rank_batch: int | None
    """Images of a rank's step; None where phases differ in it."""
    phases: bool


def terms(path: Path) -> Terms:
    """Read ``config.yaml``, which every run writes in full.

    Raises:
        KeyError: a setting is missing; another version wrote it.
    """
    config = yaml.safe_load(path.read_text())
    phases, target = config["phases"], config["target"]
    lasts = [phase["epochs"] for phase in phases]
    batches = {phase["batch_size"] for phase in phases} or {config["data"]["batch_size"]}
    return Terms(
        log_every=config["log_every"],
        every=config["evaluation"]["every"],
        confirm=len(config["evaluation"]["confirm"]),
        target=target,
        goal=None if target is None else round(target + config["target_margin"], 9),
        epochs=sum(lasts) if phases and all(lasts) else config["epochs"],
        steps=config["steps"],
        rank_batch=batches.pop() * config["accumulate"] if len(batches) == 1 else None,
        phases=bool(phases),
    )


def read(path: Path) -> tuple[list[Event], list[Fault]]:
    """All events of a log, and the lines that are none.

    A kill may cut a line off: then a process that goes on, or nothing, follows.
    """
    events, faults, cut = [], [], 0
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
        event = _event(number, line)
        if cut and (event is None or event.key != "init_start"):
            faults.append((cut, "is no event"))
        cut = number if event is None else 0
        if event:
            events.append(event)
    if cut:
        faults.append((cut, "is no event; nothing follows it"))
    return events, faults


def _event(number: int, line: str) -> Event | None:
    try:
        found = json.loads(line)
        event = Event(number, *(found[key] for key in ("time", "key", "value", "step", "epoch")))
    except (ValueError, KeyError, TypeError):
        return None
    numbers = isinstance(event.time, int | float) and isinstance(event.epoch, int | float)
    return event if numbers and isinstance(event.step, int) and isinstance(event.key, str) else None
