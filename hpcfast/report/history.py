"""What happened in a run, from its ``events.jsonl``: curves, what was undone, and a timeline.

A run can go back in two ways. After a kill it resumes from its last checkpoint and repeats steps: they come out the
same (docs/training.md), and the later line counts. After a collapse a rollback undoes steps that will come out
differently: they are kept apart, so that a chart can show both.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hpcfast.config import Phase, RunConfig
from hpcfast.report.format import attack_in_words

Event = dict[str, Any]

STARTS = ("run_start", "requeue")
"""How a process begins to train: the run's first, and each that resumes it."""
GUARD = ("seen", "strong", "alignment")
"""What a ``guard`` event holds; each becomes a curve."""


class Point(NamedTuple):
    """A value, and when it was measured."""

    step: int
    epoch: float
    value: float


@dataclass(frozen=True)
class Curve:
    """One quantity over a run."""

    kept: list[Point] = field(default_factory=list)
    undone: list[list[Point]] = field(default_factory=list)
    """A list a rollback."""


class Rollback(NamedTuple):
    """A collapse, answered."""

    from_epoch: float
    to_epoch: float
    attack: str
    """What training resumed with, in words."""


class Moment(NamedTuple):
    """A line of the timeline."""

    time: float
    """Seconds since 1970."""
    what: str
    step: int
    epoch: float
    detail: str


@dataclass(frozen=True)
class History:
    """All that the events of a run tell."""

    curves: dict[str, Curve]
    """By key: those that were recorded, the guard's three, and ``images_per_second``."""
    looks: list[float]
    """Epochs at which the guard looked."""
    rollbacks: list[Rollback]
    timeline: list[Moment]
    epoch: float
    """How far the run is."""
    last: float | None
    """When something was recorded last (seconds since 1970)."""
    start: Event
    """What the last of STARTS says of ranks and device; empty where there is none."""


def tell(events: list[Event], config: RunConfig) -> History:
    """Read the history of a run of ``config`` from its ``events``."""
    kept, undone = _separate(events)
    kept = [*kept, *_rates(kept, config)]
    starts = [event["value"] for event in events if event["key"] in STARTS]
    samples, *parts = (_samples(part) for part in (kept, *undone))
    return History(
        curves={
            key: Curve(samples.get(key, []), [part[key] for part in parts if key in part])
            for each in (samples, *parts)
            for key in each
        },
        looks=[event["epoch"] for event in kept if event["key"] == "guard"],
        rollbacks=_rollbacks(events),
        timeline=_timeline(events),
        epoch=max((event["epoch"] for event in kept), default=0.0),
        last=events[-1]["time"] if events else None,
        start=starts[-1] if starts else {},
    )


def _separate(events: list[Event]) -> tuple[list[Event], list[list[Event]]]:
    """What holds in the end, each event with the number of ranks at its time; and what each rollback undid."""
    kept: list[Event] = []
    undone: list[list[Event]] = []
    ranks = 1
    for event in events:
        if event["key"] in (*STARTS, "rollback"):
            later = [each for each in kept if each["step"] > event["step"]]
            kept = [each for each in kept if each["step"] <= event["step"]]
            if event["key"] == "rollback":
                undone.append(later)
            else:  # `later` was lost and is repeated
                ranks = event["value"]["world_size"]
        kept.append({**event, "ranks": ranks})
    return kept, undone


def _samples(events: list[Event]) -> dict[str, list[Point]]:
    """All numbers among ``events`` by key, in order of steps; of two at one step the later."""
    found: dict[str, dict[int, Point]] = {}
    for event in events:
        values = event["value"] if event["key"] == "guard" else {event["key"]: event["value"]}
        for key, value in values.items():
            if isinstance(value, int | float):  # a loss that is not finite is recorded as text
                found.setdefault(key, {})[event["step"]] = Point(event["step"], event["epoch"], value)
    return {key: [points[step] for step in sorted(points)] for key, points in found.items()}


def _rates(kept: list[Event], config: RunConfig) -> list[Event]:
    """Images a second over all ranks, an event for each epoch (or the part of it since a resume) that came to its end.

    They are not in the log: they follow from steps, global batch and time, checkpoints within the epoch included.
    """
    phases = iter(config.all_phases)
    phase, began = next(phases), {"step": 0, "epoch": 0.0}
    start: Event | None = None
    rates = []
    for event in kept:
        if event["key"] == "epoch_start":
            start = event
        elif event["key"] == "epoch_stop" and start:
            batch = phase.batch_size * event["ranks"] * config.accumulate
            steps, seconds = (event[unit] - start[unit] for unit in ("step", "time"))
            if steps > 0 and seconds > 0:
                rates.append({**event, "key": "images_per_second", "value": steps * batch / seconds})
            if _ended(phase, began, event, batch):
                phase, began = next(phases, phase), event
            start = None
    return rates


def _ended(phase: Phase, began: Event, now: Event, batch: int) -> bool:
    steps = now["step"] - began["step"]
    if phase.epochs:
        return now["epoch"] - began["epoch"] >= phase.epochs - 1e-5  # the log rounds
    return steps >= (phase.steps or 0) and steps * batch >= (phase.images or 0)


def _rollbacks(events: list[Event]) -> list[Rollback]:
    found = []
    left = 0.0  # the epoch that the guard looked at last
    for event in events:
        if event["key"] == "guard":
            left = event["epoch"]
        elif event["key"] == "rollback":
            found.append(Rollback(left, event["epoch"], attack_in_words(event["value"]["attack"])))
    return found


def _timeline(events: list[Event]) -> list[Moment]:
    moments: list[Moment] = []
    reached = 0
    health: Event = {}
    for event in events:
        key, value, step = event["key"], event["value"], event["step"]
        if key in STARTS:
            what = "resumed" if moments else "started"
            detail = f"ranks: {value['world_size']}, device: {value['device']}"
            if reached > step:
                detail += f"; at least {reached - step} steps were lost and are repeated"
        elif key == "run_interrupted":
            what, detail = "stopped", str(value or "")
        elif key == "rollback":
            what, attack = "rollback", attack_in_words(value["attack"])
            detail = f"from step {value['from_step']} to {value['to_step']}, resumed with {attack}"
            if health:
                detail = f"seen {health['seen']:.0%}, strong {health['strong']:.0%}: {detail}"
        elif key == "target_reached":
            what, detail = "target reached", f"robust accuracy {value:.1%}"
        elif key == "run_stop":
            what, detail = "finished", ""
        elif key.startswith("run_"):  # of another version
            what, detail = key.removeprefix("run_").replace("_", " "), "" if value is None else str(value)
        else:
            health = value if key == "guard" else health
            reached = max(reached, step)
            continue
        reached = step
        moments.append(Moment(event["time"], what, step, event["epoch"], detail))
    return moments
