"""What happened in a run, from its ``events.jsonl``: curves, what was undone, and a timeline.

A run can go back in two ways. After a kill it resumes from its last checkpoint and repeats steps: they come out the
same (docs/training.md), and the later line counts. After a collapse a rollback undoes steps that will come out
differently: they are kept apart, so that a chart can show both.
"""

from typing import Any, NamedTuple

from hpcfast.report.format import attack_in_words

Event = dict[str, Any]

STARTS = ("run_start", "requeue")
"""How a process begins to train: the run's first, and each that resumes it."""
TOLD = {
    "run_start": "started", "requeue": "resumed", "run_interrupted": "stopped", "run_aborted": "aborted",
    "rollback": "rollback", "target_reached": "target reached", "run_stop": "finished",
}  # fmt: skip
"""What the timeline has."""


class Point(NamedTuple):
    """A value, and when it was measured."""

    step: int
    epoch: float
    value: float


Curves = dict[str, list[Point]]
"""By key: the numbers that were recorded, and those that a ``guard`` event holds."""


class Moment(NamedTuple):
    """A line of the timeline; ``time`` is in seconds since 1970."""

    time: float
    what: str
    step: int
    epoch: float
    detail: str


class History(NamedTuple):
    """All that the events of a run tell."""

    kept: Curves
    undone: list[Curves]
    """A piece a rollback."""
    answers: list[str]
    """The attacks that training resumed with after each collapse, in words."""
    timeline: list[Moment]
    epoch: float
    """How far the run is."""
    start: Event
    """What the last of STARTS says of ranks and device; empty where there is none."""


def tell(events: list[Event]) -> History:
    """Read the history of a run from its ``events``."""
    kept: list[Event] = []
    undone, answers, timeline = [], [], []
    start, health, reached = Event(), Event(), 0
    for event in events:
        key, value, step = event["key"], event["value"], event["step"]
        if key in STARTS:
            start = value
        if key == "guard":
            health = value
        if key == "rollback":
            undone.append(_curves([each for each in kept if each["step"] > step]))
            answers.append(attack_in_words(value["attack"]))
        if key in (*STARTS, "rollback"):  # what a start finds to be later was lost and is repeated
            kept = [each for each in kept if each["step"] <= step]
        if key in TOLD:
            detail = _detail(key, value, reached - step, health)
            timeline.append(Moment(event["time"], TOLD[key], step, event["epoch"], detail))
            reached = step
        kept.append(event)
        reached = max(reached, step)
    epoch = max((event["epoch"] for event in kept), default=0.0)
    return History(_curves(kept), undone, answers, timeline, epoch, start)


def _curves(events: list[Event]) -> Curves:
    """All numbers among ``events`` by key, in order of steps; of two at one step the later."""
    found: dict[str, dict[int, Point]] = {}
    for event in events:
        values = event["value"] if event["key"] == "guard" else {event["key"]: event["value"]}
        for key, value in values.items():
            if isinstance(value, int | float):  # a loss that is not finite is recorded as text
                found.setdefault(key, {})[event["step"]] = Point(event["step"], event["epoch"], value)
    return {key: [points[step] for step in sorted(points)] for key, points in found.items()}


def _detail(key: str, value: Any, lost: int, health: Event) -> str:
    if key in STARTS:
        again = f"; at least {lost} steps were lost and are repeated" if lost > 0 else ""
        return f"ranks: {value['world_size']}, device: {value['device']}{again}"
    if key == "rollback":
        seen = f"seen {health['seen']:.0%}, strong {health['strong']:.0%}: " if health else ""
        attack = attack_in_words(value["attack"])
        return f"{seen}from step {value['from_step']} to {value['to_step']}, resumed with {attack}"
    if key == "target_reached":
        return f"robust accuracy {value:.1%}"
    if key == "run_aborted":
        return str(value["why"])
    return str(value or "") if key == "run_interrupted" else ""
